"""The primary metric by source and by label, so that a good mean cannot hide a weak subset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.evaluation.bootstrap import count_units, interval
from tasks.evaluation.comparison import mean, scale
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.metric import Scores
from tasks.evaluation.outcomes import ModelName
from tasks.evaluation.scoring import Key, Scoreboard, resample

Dimension = Literal["source", "label"]


@dataclass(frozen=True)
class Slice:
    """One source or label.

    Attributes:
        dimension: What the items are grouped by.
        name: The source or label.
        items: Items in it that the metric scores.
        values: Score by model.
        difference: Candidate minus opponent.
        low: Lower end of its interval.
        high: Upper end.
        badness: The candidate's score, negated where higher is better; sorts the worst slice first.
    """

    dimension: Dimension
    name: str
    items: int
    values: dict[ModelName, float]
    difference: float
    low: float
    high: float
    badness: float


def score_slices(board: Scoreboard, primary: str, resamples: int, seed: int) -> list[Slice]:
    """Scores of all slices on the primary metric, the worst of each dimension first.

    Args:
        board: Scores of all items.
        primary: The metric.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
    """
    dimensions: tuple[tuple[Dimension, Callable[[Item], str | None]], ...] = (
        ("source", lambda item: item.source),
        ("label", lambda item: item.label),
    )
    slices: list[Slice] = []
    for dimension, group_of in dimensions:
        groups = [group_of(item) for item in board.items]
        names = sorted({group for group in groups if group})
        parts = [_score_slice(board, primary, dimension, name, groups, resamples, seed) for name in names]
        slices.extend(sorted((p for p in parts if p is not None), key=lambda p: (-p.badness, p.name)))
    return slices


def _score_slice(
    board: Scoreboard,
    primary: str,
    dimension: Dimension,
    name: str,
    groups: list[str | None],
    resamples: int,
    seed: int,
) -> Slice | None:
    metric = board.metrics[primary]
    inside = np.array([group == name for group in groups])
    scores: dict[Key, Scores] = {}
    for model in board.outcomes:
        scores[(model, primary)] = board.scores[(model, primary)].part(inside)
    items = scores[("candidate", primary)].items
    if not items:
        return None
    clusters = [item.cluster for item, member in zip(board.items, inside, strict=True) if member]
    means = resample(scores, clusters, resamples, seed)
    values = {model: mean(metric, scores[(model, primary)]) for model in board.outcomes}
    differences = scale(metric, means[("candidate", primary)]) - scale(metric, means[(board.opponent, primary)])
    units = count_units(scores[("candidate", primary)].weights, clusters)
    low, high = interval(differences, board.confidence, units)
    candidate = values["candidate"]
    return Slice(
        dimension,
        name,
        items,
        values,
        candidate - values[board.opponent],
        low,
        high,
        -candidate if metric.higher_is_better else candidate,
    )
