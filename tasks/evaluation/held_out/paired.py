"""Scores of all models on the same items, and why a metric that cannot give them fails.

A difference between models is one of the same items. An item that a metric scores for some models only is left out for
all, and counted. A metric that raises, or gives a number for an item that is none, has failed: it is shown with the
item and the reason, the other metrics go on, and the gate promotes nothing that depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.errors import PipelineError
from tasks.evaluation.items import hash_items
from tasks.evaluation.judges.judge import NoVerdict
from tasks.evaluation.metrics.metric import Evidence, Metric, Scores, score_items
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.worse_answers import WorseAnswers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairedScores:
    """Scores of one metric.

    Attributes:
        scores: By model, with weight on the same items; empty where the metric failed.
        unpaired: Items scored for some models only, which are left out.
        failure: Why the metric failed; empty where it did not.
    """

    scores: Mapping[ModelName, Scores] = field(default_factory=dict, repr=False)
    unpaired: int = 0
    failure: str = ""


def check_same_items(evidence: Evidence, outcomes: Mapping[ModelName, Outcome]) -> None:
    """Refuse answers to other items than those that are scored.

    Raises:
        PipelineError: A model answered other items, or more or fewer.
    """
    expected, count = hash_items(evidence.items), len(evidence.items)
    for model, outcome in outcomes.items():
        arrays = (outcome.finished, outcome.losses, outcome.tokens, outcome.answer_tokens)
        counts = {len(outcome.answers), *map(len, arrays)}
        if counts != {count}:
            raise PipelineError(
                f"{model}: {' and '.join(f'{found:,}' for found in sorted(counts))} answers to {count:,} items; "
                "expected one to each; delete .heptune/answers and evaluate again"
            )
        if outcome.items and outcome.items != expected:
            raise PipelineError(
                f"{model}: answered other items (set {outcome.items[:12]}) than are scored (set {expected[:12]}), so "
                "nothing can be compared; delete .heptune/answers and evaluate again"
            )


def score_paired(metric: Metric, evidence: Evidence, outcomes: Mapping[ModelName, Outcome]) -> PairedScores:
    """Score all models on the same items, or say why that fails.

    Raises:
        PipelineError: The metric itself refused with a reason.
    """
    scores: dict[ModelName, Scores] = {}
    for model, outcome in outcomes.items():
        try:
            scores[model] = score_items(metric, evidence, outcome)
            if outcome.scored is not None:
                scores[model] = keep_items(scores[model], outcome.scored)
        except NoVerdict as failure:
            return PairedScores(failure=str(failure))
        except PipelineError:
            raise
        except Exception as error:
            where = find_raising(metric, evidence, outcome)
            logger.exception("%s failed on %s of the %s", metric.name, where, model)
            reason = " ".join(str(error).split()) or "no message"
            return PairedScores(failure=f"it failed on {where} of the {model}: {type(error).__name__}: {reason}")
        if wrong := describe_not_finite(scores[model], evidence):
            return PairedScores(failure=f"{wrong} of the {model}")
    weighted = np.array([one.weights > 0 for one in scores.values()])
    common, some = np.asarray(weighted.all(axis=0)), np.asarray(weighted.any(axis=0))
    unpaired = int((some & ~common).sum())
    if not common.any():
        return PairedScores(failure="no item is scored for all models", unpaired=unpaired)
    if unpaired:
        logger.warning("%s: %s items are scored for some models only and are left out", metric.name, f"{unpaired:,}")
        scores = {model: keep_items(one, common) for model, one in scores.items()}
    return PairedScores(scores, unpaired)


def find_raising(metric: Metric, evidence: Evidence, outcome: Outcome) -> str:
    """An item on which the metric raises, found by halving; all answers where it raises on the whole only."""

    def raises(low: int, high: int) -> bool:
        part = slice(low, high)
        try:
            score_items(metric, replace(evidence, items=evidence.items[part]), cut_outcome(outcome, part))
        except Exception:  # noqa: BLE001 - whatever it raises is what is looked for
            return True
        return False

    low, high = 0, len(evidence.items)
    while high - low > 1:
        middle = (low + high) // 2
        if raises(low, middle):
            high = middle
        elif raises(middle, high):
            low = middle
        else:
            return "the answers"
    return f"item {evidence.items[low].id}"


def cut_outcome(outcome: Outcome, part: slice) -> Outcome:
    """The answers to a part of the items."""
    worse = outcome.worse and WorseAnswers(outcome.worse.losses[part], outcome.worse.tokens[part])
    return replace(
        outcome,
        answers=outcome.answers[part],
        finished=outcome.finished[part],
        losses=outcome.losses[part],
        tokens=outcome.tokens[part],
        answer_tokens=outcome.answer_tokens[part],
        worse=worse,
        ranks=None if outcome.ranks is None else outcome.ranks[part],
        items="",
        scored=None if outcome.scored is None else outcome.scored[part],
    )


def describe_not_finite(scores: Scores, evidence: Evidence) -> str:
    """What of the scores is not a number; empty where all are."""
    if scores.tally is not None:
        total = scores.tally.combine(scores.tally.counts.sum(axis=0))
        return "" if np.isfinite(total).all() else "the score is not a number, that"
    wrong = ~(np.isfinite(scores.values) & np.isfinite(scores.weights)) & (scores.weights != 0)
    if not wrong.any():
        return ""
    first = evidence.items[int(wrong.argmax())].id
    return f"{int(wrong.sum()):,} of {scores.items:,} scores are not numbers (the first is that of item {first}), those"


def keep_items(scores: Scores, kept: NDArray[np.bool_]) -> Scores:
    """The scores with weight on some of the items only."""
    tally = scores.tally and replace(scores.tally, counts=scores.tally.counts * kept[:, None])
    return Scores(np.where(kept, scores.values, 0.0), scores.weights * kept, tally)
