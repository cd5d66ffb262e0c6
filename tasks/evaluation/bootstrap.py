"""Paired bootstrap of weighted means.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. Items
are drawn with replacement, and in each draw all scores of all models are computed on the same items:
that pairing cancels what the items share, how hard they are above all, and is what makes differences
visible on a few hundred items. Near-duplicates are drawn together, as one cluster, because they are
not independent observations (Miller, "Adding Error Bars to Evals", arXiv:2411.00640, 2024).

A score is ``sum(weight x value) / sum(weight)``, so a mean over items, over labelled items, over one
source or over tokens are all the same computation. A score that is no mean, such as BLEU, is computed in each draw
from the sums of what its items count.

Example:
    Two items with values 0 and 1 and equal weights: a draw takes each twice with probability 1/4, so
    the replicates are 0, 0.5 and 1 in the proportions 1 : 2 : 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Limits the memory of one chunk of draws to 64 MiB (8 bytes a count).
_COUNTS_PER_CHUNK = 2**23


def replicate_means(values: Floats, weights: Floats, clusters: Sequence[str], resamples: int, seed: int) -> Floats:
    """Weighted means of resampled items.

    Args:
        values: Scores, (items, scores).
        weights: Their weights, (items, scores).
        clusters: Cluster of each item; clusters are drawn whole.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        Array (resamples, scores); NaN where a draw has no weight.
    """
    unit = cluster_numbers(clusters)
    numerators, totals = sum_units(values * weights, unit), sum_units(weights, unit)
    parts = []
    for counts in _draw_counts(len(totals), resamples, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((counts @ numerators) / (counts @ totals))
    return np.concatenate(parts)


def replicate_tally(
    counted: Floats, combine: Callable[[Floats], Floats], clusters: Sequence[str], resamples: int, seed: int
) -> Floats:
    """Scores of resampled items that are no means, from the same draws as `replicate_means`.

    Args:
        counted: What each item counts, (items, kinds).
        combine: Sums, (..., kinds), to scores, (...).
        clusters: Cluster of each item; clusters are drawn whole.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    sums = sum_units(counted, cluster_numbers(clusters))
    return np.concatenate([combine(counts @ sums) for counts in _draw_counts(len(sums), resamples, seed)])


def sum_units(values: Floats, unit: NDArray[np.int64]) -> Floats:
    """Sums over the items of each cluster, (clusters, columns)."""
    sums = np.zeros((int(unit.max()) + 1, values.shape[1]))
    np.add.at(sums, unit, values)
    return sums


def _draw_counts(units: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each unit is drawn, (draws, units), some draws at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _COUNTS_PER_CHUNK // units)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        drawn = rng.integers(0, units, (draws, units)) + np.arange(draws)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def cluster_numbers(clusters: Sequence[str]) -> NDArray[np.int64]:
    """Clusters as numbers from 0, in the order of their first item."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in clusters], dtype=np.int64)


def interval(
    replicates: Floats, confidence: float, units: int, skew: tuple[float, Floats] | None = None
) -> tuple[float, float]:
    """Expanded percentile interval of resampled scores, or the bias-corrected and accelerated one.

    Plain percentiles of few units are too narrow: they miss the factor ``sqrt(n / (n - 1))`` and take the
    normal distribution for Student's. The tails are moved out by just that, ``Phi(-sqrt(n / (n - 1)) t)``
    (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 2015). At 400
    units and 95% that is a tail of 2.4% in place of 2.5%.

    With ``skew`` both tails are moved once more, as BCa moves them (Efron, JASA 1987): by the share of resampled
    scores below the score itself, and by the skewness of the units' influences, so that a skewed score is missed
    equally often on both sides.

    Args:
        replicates: Resampled scores; NaN (a draw that missed the slice) is ignored.
        confidence: Share of intervals that contain the true value.
        units: Number of items or clusters that were resampled.
        skew: The score itself, and by how much each unit moves it; None for the expanded percentile interval.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    finite = replicates[np.isfinite(replicates)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = 0.0, 1.0
    if units > 1:
        edge = float(stdtrit(units - 1, (1 - confidence) / 2) * np.sqrt(units / (units - 1)))
        low, high = float(ndtr(edge)), float(1 - ndtr(edge))
        if skew is not None:
            estimate, influences = skew
            below = float(((finite < estimate).sum() + (finite == estimate).sum() / 2) / finite.size)
            spread = float((influences**2).sum())
            if 0 < below < 1 and spread > 0:
                bias, acceleration = float(ndtri(below)), float((influences**3).sum()) / (6 * spread**1.5)
                low, high = (float(ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))) for z in (edge, -edge))
    # The ends are resampled scores, not interpolated ones, so that a score and its exp agree on the sign.
    return float(np.quantile(finite, low, method="lower")), float(np.quantile(finite, high, method="higher"))


def count_units(weights: Floats, clusters: Sequence[str]) -> int:
    """Number of clusters with any weight."""
    return len({cluster for cluster, weight in zip(clusters, weights, strict=True) if weight > 0})
