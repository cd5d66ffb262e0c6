"""Differences of rates between groups, as tallies that can be resampled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.metrics.metric import Scores, Tally

Floats = NDArray[np.float64]


def gap_scores(values: Floats, weights: Floats, groups: Sequence[str], names: Sequence[str]) -> Scores:
    """The largest less the smallest mean of the groups; without two groups that count it has no weight.

    Args:
        values: One per question, between 0 and 1.
        weights: Whether each question counts.
        groups: The group of each question.
        names: The groups.
    """
    counts = _counts(values, weights, groups, names)
    enough = int((counts[:, len(names) :].sum(axis=0) > 0).sum()) > 1
    return Scores(values, weights * float(enough), Tally(counts, _gap))


def larger_gap_scores(
    values: Floats, weights: tuple[Floats, Floats], groups: Sequence[str], names: Sequence[str]
) -> Scores:
    """The larger of two gaps of the same values, such as those of two kinds of errors.

    Args:
        values: One per question, between 0 and 1.
        weights: Whether each question counts in the one gap, and in the other; no question in both.
        groups: The group of each question.
        names: The groups.
    """
    both = [gap_scores(values, one, groups, names) for one in weights]
    counts = np.concatenate([_counts(values, one, groups, names) for one in weights], axis=1)
    return Scores(values, both[0].weights + both[1].weights, Tally(counts, _larger_gap))


def _counts(values: Floats, weights: Floats, groups: Sequence[str], names: Sequence[str]) -> Floats:
    """What each question adds to the sum and to the number of its group, (questions, 2 x groups)."""
    member = np.array([[float(group == name) for name in names] for group in groups]) * weights[:, None]
    return np.concatenate([member * values[:, None], member], axis=1)


def _larger_gap(counts: Floats) -> Floats:
    half = counts.shape[-1] // 2
    return np.asarray(np.maximum(_gap(counts[..., :half]), _gap(counts[..., half:])), dtype=np.float64)


def _gap(counts: Floats) -> Floats:
    """Of sums and numbers by group, (..., 2 x groups), to gaps, (...); groups without a question are left out."""
    groups = counts.shape[-1] // 2
    sums, numbers = counts[..., :groups], counts[..., groups:]
    means = np.divide(sums, numbers, out=np.zeros(sums.shape), where=numbers > 0)
    highest = np.where(numbers > 0, means, -np.inf).max(axis=-1)
    lowest = np.where(numbers > 0, means, np.inf).min(axis=-1)
    return np.asarray(np.where(np.isfinite(highest - lowest), highest - lowest, 0.0), dtype=np.float64)
