"""The primary metric on parts of the items, so that a good mean cannot hide a weak subset.

A slice is too small where it has fewer items than it takes to show, with the stated power, a difference as large as
that of all items together (or, where that is undecided, as large as they could show), or fewer than `MINIMUM_UNITS`
items that are no near-duplicates. Among many slices some differ by chance: what stands out is found by Holm's method
over all of them, from the permutation test of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.evaluation.bootstrap import count_units, interval
from tasks.evaluation.comparison import Comparison, compare, mean, scale
from tasks.evaluation.held_out.folds import find_widening
from tasks.evaluation.metrics.metric import Scores
from tasks.evaluation.outcomes import ModelName
from tasks.evaluation.scoring import Key, Scoreboard, resample, widen
from tasks.evaluation.slices.groups import Grouping

# Of fewer items no interval holds what it says.
MINIMUM_UNITS = 10


@dataclass(frozen=True)
class Slice:
    """The items of one group.

    Attributes:
        dimension: What the items are grouped by.
        name: The group.
        items: Items in it that the metric scores.
        values: Score by model.
        ends: Interval of the candidate's score.
        comparison: The candidate against its opponent.
        badness: The candidate's score, negated where higher is better; sorts the worst slice first.
        enough: Items that it takes.
        too_small: Whether it has fewer.
        stands_out: Whether the difference is clear among all slices, by Holm's method.
    """

    dimension: str
    name: str
    items: int
    values: dict[ModelName, float]
    ends: tuple[float, float]
    comparison: Comparison
    badness: float
    enough: int
    too_small: bool
    stands_out: bool = False

    @property
    def difference(self) -> float:
        """Candidate minus opponent."""
        return self.comparison.difference


def score_slices(
    board: Scoreboard, primary: str, groupings: Sequence[Grouping], resamples: int, seed: int
) -> list[Slice]:
    """Scores of all slices on the primary metric, by grouping, the worst of each first.

    Args:
        board: Scores of all items.
        primary: The metric.
        groupings: What the items are grouped by.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
    """
    enough = find_enough(board.against_opponent[primary])
    slices: list[Slice] = []
    for grouping in groupings:
        names = sorted({group for group in grouping.groups if group is not None})
        parts = [_score_slice(board, primary, grouping, name, enough, resamples, seed) for name in names]
        slices.extend(sorted((p for p in parts if p is not None), key=lambda p: (-p.badness, p.name)))
    return mark_outstanding(slices, board.confidence)


def find_enough(whole: Comparison) -> int:
    """Items that a slice needs to show a difference as large as that of all items, see the top of this file."""
    target = abs(whole.difference) if whole.result != "undecided" else whole.detectable
    if not (target > 0 and math.isfinite(whole.detectable)):
        return MINIMUM_UNITS
    return max(MINIMUM_UNITS, math.ceil(whole.items * (whole.detectable / target) ** 2 - 1e-9))


def mark_outstanding(slices: Sequence[Slice], confidence: float) -> list[Slice]:
    """The slices, those marked whose difference is clear among them all, by Holm's method."""
    tested = [
        (one.comparison.checks.permutation, place)
        for place, one in enumerate(slices)
        if one.comparison.checks and one.comparison.checks.permutation is not None
    ]
    clear: set[int] = set()
    for tried, (p, place) in enumerate(sorted(tested)):
        if p > (1 - confidence) / (len(tested) - tried):
            break
        clear.add(place)
    return [replace(one, stands_out=place in clear) for place, one in enumerate(slices)]


def _score_slice(
    board: Scoreboard, primary: str, grouping: Grouping, name: str, enough: int, resamples: int, seed: int
) -> Slice | None:
    metric = board.metrics[primary]
    inside = np.array([group == name for group in grouping.groups])
    scores: dict[Key, Scores] = {}
    for model in board.outcomes:
        scores[(model, primary)] = board.scores[(model, primary)].part(inside)
    candidate, opponent = scores[("candidate", primary)], scores[(board.opponent, primary)]
    if not candidate.items:
        return None
    clusters = [item.cluster for item, member in zip(board.items, inside, strict=True) if member]
    means = resample(scores, clusters, resamples, seed)
    units = count_units(candidate.weights, clusters)
    value = mean(metric, candidate)
    comparison = compare(
        metric,
        candidate,
        opponent,
        means[("candidate", primary)],
        means[(board.opponent, primary)],
        clusters,
        board.confidence,
        board.power,
        tail=bool(board.folds),
    )
    ends = interval(scale(metric, means["candidate", primary]), board.confidence, units)
    if board.folds:
        factor = find_widening(board.folds)
        comparison, ends = comparison.widen(factor), widen(value, ends, factor, metric.bounded)
    return Slice(
        grouping.name,
        name,
        candidate.items,
        {model: mean(metric, scores[model, primary]) for model in board.outcomes},
        ends,
        comparison,
        -value if metric.higher_is_better else value,
        enough,
        candidate.items < enough or units < MINIMUM_UNITS,
    )
