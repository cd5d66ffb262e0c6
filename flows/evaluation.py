"""Stage 5: base, champion and candidate on the same held-out items, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.stage import recorder, run, stage, task
from flows.wiring.trainings.repeats import train_repeats
from tasks.contracts.manifest import NAME, hash_file
from tasks.contracts.tables import read_examples
from tasks.evaluation.answer_store import AnswerStore
from tasks.evaluation.decisions.reuse import FrozenChampion, HeldOutUse, read_frozen_champion, use_held_out
from tasks.evaluation.held_out.folds import Folds, deal_folds
from tasks.evaluation.held_out.joined import answer_by_folds, answer_by_seeds, answer_unseen, blank_unscored, write_kept
from tasks.evaluation.held_out.seen import refuse_seen_items
from tasks.evaluation.intents import fit_intent_classifier
from tasks.evaluation.items import ItemSet, select_items
from tasks.evaluation.judges.judged import JudgedRun, judge_answers
from tasks.evaluation.metrics.judged.by_judge import as_metric
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.outcomes import AnswerSettings, Outcome, answer_with_base
from tasks.evaluation.params import Evaluation
from tasks.evaluation.probes.probe import list_probes
from tasks.evaluation.publish import write_figures, write_predictions, write_slices, write_verdict
from tasks.evaluation.report.answer_table import tabulate_answers
from tasks.evaluation.report.background import read_background
from tasks.evaluation.report.blocks import ReportBlock
from tasks.evaluation.report.calibration import describe_calibration
from tasks.evaluation.report.judges import list_judge_blocks
from tasks.evaluation.report.page import write_report
from tasks.evaluation.report.suite_block import describe_suites
from tasks.evaluation.reward_metrics.added import add_reward_metrics
from tasks.evaluation.scoring import Scoreboard, score_outcomes
from tasks.evaluation.slices.groups import Groupings, group_items
from tasks.evaluation.slices.scores import Slice, score_slices
from tasks.evaluation.suites.run_data import RunData
from tasks.evaluation.suites.scoring import SuiteBoard, SuiteQuestions, read_suites, score_suites
from tasks.evaluation.trustworthiness.axes import describe_axes
from tasks.evaluation.verdict import PromotionVerdict, check_metrics, decide
from tasks.language_models.pooling import Pooling
from tasks.training.objectives.contrastive import Contrastive
from tasks.training.objectives.reward_models.reward_objective import RewardObjective
from tasks.training.text_pairs import PairKind
from tasks.training.tuned import read_objective

if TYPE_CHECKING:
    import pyarrow as pa

# The code that decides about answers, scores and verdict.
CODE = (Path("flows/evaluation.py"), *(Path("tasks", name) for name in ("evaluation", "language_models", "training")))


@dataclass(frozen=True)
class Exam:
    """What all models are asked, and what their answers are held against.

    Attributes:
        train: Rows of training.
        selected: The held-out items.
        folds: Those of cross-validation; of none where it is off.
        use: How often the items have decided, and at which level they do now.
        groupings: Items by the columns of the slices.
        evidence: What metrics read beside answers.
        metrics: With those that the objective adds.
        suites: Questions beside the items.
        pairs: Texts that are to have similar vectors, of a model for vectors; None for others.
        pooling: How such a model makes a vector of its states.
    """

    train: pa.Table
    selected: ItemSet
    folds: Folds
    use: HeldOutUse
    groupings: Groupings
    evidence: Evidence
    metrics: tuple[Any, ...]
    suites: SuiteQuestions
    pairs: PairKind | None
    pooling: Pooling


@dataclass(frozen=True)
class ExamAnswers:
    """What the models answered.

    Attributes:
        base: The base model.
        champion: None where there is none.
        candidate: By the folds' models where there are folds.
        seeds: The candidate trained with other seeds.
        judges: Those that were asked.
        judged: What they said.
    """

    base: Outcome
    champion: Outcome | None
    candidate: Outcome
    seeds: list[Outcome]
    judges: tuple[Any, ...]
    judged: JudgedRun

    @property
    def models(self) -> list[Outcome | None]:
        return [self.base, self.champion, self.candidate]


@dataclass(frozen=True)
class ExamResult:
    """Scores of the items, of the suites and of the slices, and the verdict."""

    board: Scoreboard
    suites: SuiteBoard
    slices: list[Slice]
    verdict: PromotionVerdict


@stage
def evaluation(params: Params) -> None:
    """Answer the same items with all three models, score and compare the answers, and decide."""
    champion = read_frozen_champion(artifacts.CHAMPION)
    folder = task(open_champion)(champion.release)
    exam = set_exam(params, champion, folder)
    answers = answer_exam(params, exam, folder)
    result = score_exam(params.evaluation, exam, answers, champion.release)
    publish(params.evaluation, exam, answers, result, champion.release)


def set_exam(params: Params, champion: FrozenChampion, folder: Path | None) -> Exam:
    """Items that no model has seen, what they are grouped and scored by, and the questions of suites."""
    settings, objective = params.evaluation, read_objective(artifacts.TUNED)
    selected = task(select_items)(
        artifacts.TEST,
        settings.items,
        artifacts.INITIAL,
        folder,
        objective.rows == "texts",
        artifacts.ANSWERS,
        objective.rows == "steps",
        artifacts.TRAIN if settings.folds else None,
        params.data_preparation.split.train_only,
    )
    train = read_examples(artifacts.TRAIN)
    folds = task(deal_folds)(train, settings.folds)
    task(refuse_seen_items)(selected.items, artifacts.TRAIN, folds)
    use = task(use_held_out)(
        [item.id for item in selected.items],
        hash_file(artifacts.TUNED / NAME),
        champion.decisions,
        settings.gate.reuse,
        settings.bootstrap.confidence,
    )
    groupings = task(group_items)(selected.items, settings.slices, artifacts.EXTRA)
    pairs: PairKind | None = objective.pairs if isinstance(objective, Contrastive) else None
    pooling: Pooling = objective.pooling if isinstance(objective, Contrastive) else "mean"
    intents = task(fit_intent_classifier)(artifacts.TRAIN, selected.items)
    rewards = isinstance(objective, RewardObjective)
    evidence = Evidence(selected.items, intents, pairs is not None, rewards, kept=artifacts.JUDGED)
    metrics = add_reward_metrics(settings.metrics, evidence)
    task(check_metrics)(evidence, metrics, selected.same_tokens)
    suites = task(read_suites)(settings.suites, RunData(selected.items, artifacts.TRAIN, artifacts.EXTRA))
    return Exam(train, selected, folds, use, groupings, evidence, metrics, suites, pairs, pooling)


def answer_exam(params: Params, exam: Exam, folder: Path | None) -> ExamAnswers:
    """Answers of base, champion and candidate, of the models of folds and other seeds, and what judges say of them."""
    settings, items = params.evaluation, exam.selected.items
    how = AnswerSettings(
        **settings.generation.model_dump(),
        store=AnswerStore(artifacts.EVALUATED),
        suites=exam.suites.questions,
        probes=list_probes(settings.metrics),
        pairs=exam.pairs,
        pooling=exam.pooling,
        rewards=exam.evidence.rewards,
    )
    repeated = task(train_repeats)(params, exam.folds)
    base = task(answer_with_base)(items, artifacts.INITIAL, how)
    champion = task(answer_unseen)(items, exam.folds, folder, how)
    candidate = task(answer_by_folds)(items, exam.folds, artifacts.INITIAL, artifacts.TUNED, repeated.folds, how)
    seeds = task(answer_by_seeds)(items, artifacts.INITIAL, repeated.seeds, how)
    # Without answers there is nothing to judge.
    judges = () if exam.pairs or exam.evidence.rewards else settings.judges
    models = [base, champion, candidate]
    judged = task(judge_answers)(judges, blank_unscored(items, models), [*models, *seeds], artifacts.JUDGED)
    return ExamAnswers(base, champion, candidate, seeds, judges, judged)


def score_exam(settings: Evaluation, exam: Exam, answers: ExamAnswers, release: str | None) -> ExamResult:
    """Scores with intervals, and what they say of the candidate."""
    bootstrap = settings.bootstrap.at(exam.use.confidence)
    board = task(score_outcomes)(
        replace(exam.evidence, judged=answers.judged.by_judge),
        answers.models,
        (*exam.metrics, *map(as_metric, answers.judges)),
        **bootstrap,
        seeds=answers.seeds,
        folds=exam.folds,
    )
    suites = task(score_suites)(exam.suites, answers.models, **bootstrap)
    verdict = task(decide)(board, **settings.gate.rule, champion=release, held_out=exam.use, suites=suites)
    slices = task(score_slices)(
        board, verdict.primary, exam.groupings.found, settings.bootstrap.resamples, settings.bootstrap.seed
    )
    return ExamResult(board, suites, slices, verdict)


def publish(settings: Evaluation, exam: Exam, answers: ExamAnswers, result: ExamResult, release: str | None) -> None:
    """Write the page, the figures, the answers and the verdict."""
    board, verdict, values = result.board, result.verdict, settings.model_dump(mode="json")
    background = task(read_background)(
        artifacts.CURVE.parent, artifacts.INITIAL, artifacts.TUNED, artifacts.TEST, values, release, CODE
    )
    task(write_kept)(answers.candidate, exam.selected.items, exam.folds, exam.train, artifacts.FOLD_ANSWERS)
    # What other rooms measured, in the order of the page.
    blocks: list[ReportBlock] = [
        *list_judge_blocks(answers.judged),
        *describe_suites(result.suites),
        describe_axes(result.suites, board.outcomes),
        *describe_calibration(exam.evidence, board),
    ]
    task(write_predictions)(board, artifacts.PREDICTIONS)
    task(write_slices)(result.slices, artifacts.SLICES)
    task(write_figures)(
        board, verdict, artifacts.metrics("evaluation"), artifacts.headline("evaluation"), result.suites
    )
    task(write_report)(
        exam.selected,
        board,
        verdict,
        exam.groupings,
        result.slices,
        background,
        values,
        blocks,
        artifacts.report("evaluation"),
    )
    task(write_verdict)(verdict, artifacts.EVALUATION_VERDICT)
    recorder().table("answers.json", tabulate_answers(board, verdict.primary))


def open_champion(release: str | None) -> Path | None:
    """The model folder of the champion, verified, and fetched if it is not stored locally; None without a champion."""
    if release is None:
        return None
    from flows.wiring.releases.registry import open_registry

    return open_registry().fetch_release(release) / "model"


if __name__ == "__main__":
    run(evaluation)
