"""Stage 5: base, champion and candidate on the same held-out items, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.repeats import train_repeats
from flows.wiring.stage import recorder, run, stage, task
from tasks.contracts.manifest import NAME, hash_file
from tasks.contracts.tables import read_examples
from tasks.evaluation.answer_store import AnswerStore
from tasks.evaluation.decisions.reuse import read_frozen_champion, use_held_out
from tasks.evaluation.held_out.folds import deal_folds
from tasks.evaluation.held_out.joined import answer_by_folds, answer_by_seeds, answer_unseen, blank_unscored, write_kept
from tasks.evaluation.held_out.seen import refuse_seen_items
from tasks.evaluation.intents import fit_intent_classifier
from tasks.evaluation.items import select_items
from tasks.evaluation.judges.judged import judge_answers
from tasks.evaluation.metrics.judged.by_judge import as_metric
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.outcomes import answer_with_base
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
from tasks.evaluation.scoring import score_outcomes
from tasks.evaluation.slices.groups import group_items
from tasks.evaluation.slices.scores import score_slices
from tasks.evaluation.suites.run_data import RunData
from tasks.evaluation.suites.scoring import read_suites, score_suites
from tasks.evaluation.trustworthiness.axes import describe_axes
from tasks.evaluation.verdict import check_metrics, decide
from tasks.training.objectives.reward_objective import RewardObjective
from tasks.training.tuned import read_objective

# The code that decides about answers, scores and verdict.
CODE = (Path("flows/evaluation.py"), *(Path("tasks", name) for name in ("evaluation", "language_models", "training")))


@stage
def evaluation(params: Params) -> None:
    """Answer the same items with all three models, score and compare the answers, and decide."""
    settings = params.evaluation
    champion = read_frozen_champion(artifacts.CHAMPION)
    folder = task(open_champion)(champion.release)
    objective = read_objective(artifacts.TUNED)
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
    pairs, pooling = (objective.pairs, objective.pooling) if objective.name == "contrastive" else (None, "mean")
    intents = task(fit_intent_classifier)(artifacts.TRAIN, selected.items)
    rewards = isinstance(objective, RewardObjective)
    evidence = Evidence(selected.items, intents, pairs is not None, rewards, kept=artifacts.JUDGED)
    metrics = add_reward_metrics(settings.metrics, evidence)
    task(check_metrics)(evidence, metrics, selected.same_tokens)
    asked = task(read_suites)(settings.suites, RunData(selected.items, artifacts.TRAIN, artifacts.EXTRA))
    generation = {
        **settings.generation.model_dump(),
        "store": AnswerStore(artifacts.EVALUATED),
        "pairs": pairs,
        "pooling": pooling,
        "suites": asked.questions,
        "rewards": rewards,
        "probes": list_probes(settings.metrics),
    }
    repeated = task(train_repeats)(params, folds)
    base = task(answer_with_base)(selected.items, artifacts.INITIAL, **generation)
    in_use = task(answer_unseen)(selected.items, folds, folder, **generation)
    candidate = task(answer_by_folds)(
        selected.items, folds, artifacts.INITIAL, artifacts.TUNED, repeated.folds, **generation
    )
    seeds = task(answer_by_seeds)(selected.items, artifacts.INITIAL, repeated.seeds, **generation)
    # Without answers there is nothing to judge.
    judges = () if pairs or rewards else settings.judges
    models = [base, in_use, candidate]
    judged = task(judge_answers)(judges, blank_unscored(selected.items, models), [*models, *seeds], artifacts.JUDGED)
    board = task(score_outcomes)(
        replace(evidence, judged=judged.by_judge),
        [base, in_use, candidate],
        (*metrics, *map(as_metric, judges)),
        **settings.bootstrap.at(use.confidence),
        seeds=seeds,
        folds=folds,
    )
    suites = task(score_suites)(asked, [base, in_use, candidate], **settings.bootstrap.at(use.confidence))
    verdict = task(decide)(board, **settings.gate.rule, champion=champion.release, held_out=use, suites=suites)
    slices = task(score_slices)(
        board, verdict.primary, groupings.found, settings.bootstrap.resamples, settings.bootstrap.seed
    )
    values = settings.model_dump(mode="json")
    background = task(read_background)(
        artifacts.CURVE.parent, artifacts.INITIAL, artifacts.TUNED, artifacts.TEST, values, champion.release, CODE
    )
    task(write_kept)(candidate, selected.items, folds, train, artifacts.FOLD_ANSWERS)
    # What other rooms measured, in the order of the page.
    blocks: list[ReportBlock] = [
        *list_judge_blocks(judged),
        *describe_suites(suites),
        describe_axes(suites, board.outcomes),
        *describe_calibration(evidence, board),
    ]
    task(write_predictions)(board, artifacts.PREDICTIONS)
    task(write_slices)(slices, artifacts.SLICES)
    task(write_figures)(board, verdict, artifacts.metrics("evaluation"), artifacts.headline("evaluation"), suites)
    task(write_report)(
        selected, board, verdict, groupings, slices, background, values, blocks, artifacts.report("evaluation")
    )
    task(write_verdict)(verdict, artifacts.EVALUATION_VERDICT)
    recorder().table("answers.json", tabulate_answers(board, verdict.primary))


def open_champion(release: str | None) -> Path | None:
    """The model folder of the champion, verified, and fetched if it is not stored locally; None without a champion."""
    if release is None:
        return None
    from flows.wiring.registry import open_registry

    return open_registry().fetch_release(release) / "model"


if __name__ == "__main__":
    run(evaluation)
