"""What judges made of the models' answers: paired scores, biases, agreement, cost, and whether they may decide."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.corpus.agreement import Alpha, LabellerPair, measure_alpha, measure_pairs
from tasks.evaluation.judges.asking import Panel
from tasks.evaluation.judges.pairwise import PairwiseJudge
from tasks.evaluation.judges.people import PeopleAgreement, measure_people
from tasks.evaluation.judges.verdicts import (
    AnswerPair,
    MeasuredShare,
    combine,
    measure_consistency,
    measure_length,
    measure_position,
)

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.judges import AnyJudge
    from tasks.evaluation.judges.judge import JudgeSection
    from tasks.evaluation.judges.scored import ScoredJudge
    from tasks.evaluation.outcomes import ModelName, Outcome

Floats = NDArray[np.float64]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedAnswers:
    """What one judge says.

    Attributes:
        values: Model to its value on each item; empty where nothing was judged.
        weights: 0 for an item that one model has no verdict for, which counts for none; else 1.
        panel: Who judged, with what was asked.
        items: Items to be judged.
        unjudged: Items without a verdict.
        unfit: Why nothing may be decided by this judge; None where it may.
        position: Share of the answer that is shown first; None where answers are shown alone.
        consistency: Share of pairs with the same verdict in both orders; None where answers are shown alone.
        longer: Share of decided pairs in which the longer answer wins.
        alpha: Agreement of the panel; None of a single model.
        kappas: Agreement of every two models of it.
        people: Agreement with people; None where it is not stated what it must be.
    """

    values: Mapping[ModelName, Floats] = field(repr=False)
    weights: Floats = field(repr=False)
    panel: Panel = field(repr=False)
    items: int
    unjudged: int
    unfit: str | None
    position: MeasuredShare | None
    consistency: MeasuredShare | None
    longer: MeasuredShare | None
    alpha: Alpha | None = None
    kappas: tuple[LabellerPair, ...] = ()
    people: PeopleAgreement | None = None


@dataclass(frozen=True)
class JudgedRun:
    """What all judges say, by their names."""

    by_judge: Mapping[str, JudgedAnswers]

    @property
    def figures(self) -> dict[str, float]:
        """``judge.name.figure`` to number, what it was asked and the cost among them."""
        figures: dict[str, float] = {}
        for name, judged in self.by_judge.items():
            usage = [*judged.panel.usage, *(judged.people.usage if judged.people else ())]
            own = {
                "unjudged": float(judged.unjudged),
                "calls": float(sum(one.calls for one in usage)),
                "tokens": float(sum(one.prompt_tokens + one.completion_tokens for one in usage)),
                "cost": sum(one.cost for one in usage),
                **{
                    key: share.value
                    for key, share in (
                        ("first_shown", judged.position),
                        ("consistent", judged.consistency),
                        ("longer", judged.longer),
                    )
                    if share is not None and share.pairs
                },
            }
            if judged.people is not None and judged.people.accuracy.pairs:
                own["people"] = judged.people.accuracy.value
            if judged.alpha is not None and judged.alpha.value is not None:
                own["alpha"] = judged.alpha.value
            figures |= {f"judge.{name}.{key}": value for key, value in own.items()}
        return figures


def judge_answers(
    judges: Sequence[AnyJudge],
    items: Sequence[Item],
    outcomes: Sequence[Outcome | None],
    folder: Path | None,
    opponent: ModelName | None = None,
) -> JudgedRun:
    """Have every judge score the answers of all models.

    A judge is first held against people, where it is stated how far it must agree with them; one that does not is not
    asked about the answers, which may cost much, and decides nothing.

    Args:
        judges: The judges.
        items: The held-out items.
        outcomes: Answers of the models; None for a model that is not there.
        folder: Where verdicts are kept, so that no judge is asked twice; None keeps none.
        opponent: The model that others are held against; by default the champion, or the base where there is none.
    """
    answers = {one.model: one.answers for one in outcomes if one is not None}
    against = opponent or ("champion" if "champion" in answers else "base")
    found: dict[str, JudgedAnswers] = {}
    for judge in judges:
        panel, people = Panel.of(judge, folder), None
        if judge.agreement is not None:
            people = measure_people(
                judge, Path(judge.agreement.file), judge.agreement.items, folder, judge.agreement.at_least
            )
        if people is not None and people.unfit:
            logger.warning("%s: %s", judge.name, people.unfit)
            found[judge.name] = JudgedAnswers(
                {}, np.zeros(len(items)), panel, len(items), len(items), people.unfit, None, None, None, people=people
            )
            continue
        if isinstance(judge, PairwiseJudge):
            judged = judge_pairs(judge, panel, items, answers, against)
        else:
            judged = judge_each(judge, panel, items, answers)
        found[judge.name] = replace(judged, people=people)
    return JudgedRun(found)


def judge_pairs(
    judge: PairwiseJudge,
    panel: Panel,
    items: Sequence[Item],
    answers: Mapping[ModelName, Sequence[str]],
    opponent: ModelName,
) -> JudgedAnswers:
    """Every model's answers against the opponent's; what is equal ties without being asked about.

    Args:
        judge: A judge of pairs.
        panel: Its models.
        items: The held-out items.
        answers: Model to its answers.
        opponent: The model that others are held against.
    """
    others = [model for model in answers if model != opponent]
    asked: list[tuple[ModelName, int]] = []
    pairs: list[AnswerPair] = []
    for model in others:
        for place, item in enumerate(items):
            own, other = answers[model][place], answers[opponent][place]
            if item.prompt and own != other:
                asked.append((model, place))
                pairs.append(AnswerPair(item.prompt, own, other, item.reference))
    verdicts = judge.prefer(pairs, panel)
    combined = [combine(list(of_all)) for of_all in zip(*verdicts, strict=True)]
    values = {model: np.full(len(items), 0.5) for model in answers}
    weights = np.array([float(bool(item.prompt)) for item in items])
    for (model, place), verdict in zip(asked, combined, strict=True):
        if verdict is None:
            weights[place] = 0.0
        else:
            values[model][place] = verdict.value
    given = [(pair, verdict) for pair, verdict in zip(pairs, combined, strict=True) if verdict is not None]
    labels = [["" if one is None else str(one.value) for one in of_model] for of_model in verdicts]
    return _describe(
        judge,
        panel,
        items,
        values,
        weights,
        labels,
        measure_position([verdict for _, verdict in given]),
        measure_consistency([verdict for _, verdict in given]),
        measure_length([verdict.value for _, verdict in given], [pair for pair, _ in given]),
    )


def judge_each(
    judge: ScoredJudge, panel: Panel, items: Sequence[Item], answers: Mapping[ModelName, Sequence[str]]
) -> JudgedAnswers:
    """Every answer by itself; the arguments are those of `judge_pairs`."""
    asked = [(model, place) for model in answers for place, item in enumerate(items) if item.prompt]
    pairs = [
        AnswerPair(items[place].prompt, answers[model][place], "", items[place].reference) for model, place in asked
    ]
    grades = judge.grade(pairs, panel)
    values = {model: np.zeros(len(items)) for model in answers}
    weights = np.array([float(bool(item.prompt)) for item in items])
    for (model, place), of_all in zip(asked, zip(*grades, strict=True), strict=True):
        given = [grade for grade in of_all if grade is not None]
        if len(given) < len(of_all):
            weights[place] = 0.0
        else:
            values[model][place] = float(np.mean(given))
    models = list(answers)
    both = [
        (values[first][place] > values[second][place], place, first, second)
        for first, second in pairwise(models)
        for place in np.flatnonzero(weights).tolist()
        if values[first][place] != values[second][place]
    ]
    longer = measure_length(
        [float(won) for won, *_ in both],
        [AnswerPair((), answers[first][place], answers[second][place]) for _, place, first, second in both],
    )
    labels = [["" if grade is None else f"{grade:.2f}" for grade in of_model] for of_model in grades]
    return _describe(judge, panel, items, values, weights, labels, None, None, longer)


def _describe(
    judge: JudgeSection,
    panel: Panel,
    items: Sequence[Item],
    values: Mapping[ModelName, Floats],
    weights: Floats,
    labels: Sequence[Sequence[str]],
    position: MeasuredShare | None,
    consistency: MeasuredShare | None,
    longer: MeasuredShare | None,
) -> JudgedAnswers:
    wanted = sum(bool(item.prompt) for item in items)
    unjudged = wanted - int((weights > 0).sum())
    unfit = None
    if wanted and unjudged > judge.unjudged_at_most * wanted:
        reasons = sum((one.unusable for one in panel.usage), start=type(panel.usage[0].unusable)())
        why = [f"{reason} {count:,} times" for reason, count in reasons.most_common(3)]
        why += [one.reason for one in panel.failures if one.reason][:1]
        unfit = (
            f"the judge gave no verdict about {unjudged:,} of {wanted:,} items ({'; '.join(why)}), at most "
            f"{judge.unjudged_at_most:.0%} may have none; run again when it answers: its verdicts are kept"
        )
        logger.warning("%s: %s", judge.name, unfit)
    votes: list[dict[str, str]] = [
        {name: label for name, label in zip(panel.names, of_all, strict=True) if label}
        for of_all in zip(*labels, strict=True)
    ]
    several = len(panel.models) > 1
    return JudgedAnswers(
        values if weights.any() else {},
        weights,
        panel,
        len(items),
        unjudged,
        unfit,
        position,
        consistency,
        longer,
        measure_alpha(votes, ordered=True) if several else None,
        # Kappa knows labels only, and a score of 0.71 is not another label than 0.72.
        tuple(measure_pairs(votes)) if several and judge.shows_pairs else (),
    )


def list_bias_sentences(judged: JudgedAnswers) -> list[str]:
    """How far to believe a judge, a sentence each."""
    sentences: list[str] = []
    if judged.people is not None:
        sentences.append(
            f"Agreement with people: right on {judged.people.accuracy.describe()} pairs, which took "
            f"{sum(one.calls for one in judged.people.usage):,} more questions at a cost of "
            f"{sum(one.cost for one in judged.people.usage):.4g}"
        )
    if judged.position is not None:
        sentences.append(
            f"Position: the answer shown first gets {judged.position.describe()} pairs; without a bias 50%"
        )
    if judged.consistency is not None:
        sentences.append(f"The same verdict in both orders on {judged.consistency.describe()} pairs")
    if judged.longer is not None:
        sentences.append(f"Length: the longer answer wins {judged.longer.describe()} decided pairs")
    if judged.alpha is not None and judged.alpha.value is not None:
        sentences.append(
            f"Krippendorff's alpha of the panel: {judged.alpha.value:.2f} on {judged.alpha.texts:,} verdicts"
        )
    sentences += [
        f"{pair.first} and {pair.second}: the same verdict {pair.same:.1%} of the time"
        + ("" if pair.kappa is None else f", Cohen's kappa {pair.kappa:.2f}")
        for pair in judged.kappas
    ]
    return sentences


def describe_judges(by_judge: Mapping[str, JudgedAnswers]) -> list[str]:
    """What is to be known of each judge, a paragraph each."""
    return [
        f"{name}: {judged.unjudged:,} of {judged.items:,} items without a verdict, which count for no model. "
        + " ".join(f"{sentence}." for sentence in list_bias_sentences(judged))
        + (f" It decides nothing: {judged.unfit}." if judged.unfit else "")
        for name, judged in by_judge.items()
    ]
