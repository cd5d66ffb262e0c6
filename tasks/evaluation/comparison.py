"""The difference between two models on the same items: its interval, and the smallest detectable difference.

The interval is a paired bootstrap's (`tasks.evaluation.bootstrap`). For a score that is the ``exp`` of
a mean, both means are exponentiated in each resample before the difference is taken; as ``exp`` rises
strictly, that difference has the sign of the difference of the means in every resample, so the interval
of perplexity is clear of zero exactly when that of the loss is.

Smallest detectable difference, two-sided, at significance ``alpha`` and the given power (Miller,
arXiv:2411.00640, 2024, section 5; for NLP also Card et al., EMNLP 2020)::

    detectable = (z(1 - alpha / 2) + z(power)) x s / sqrt(n)

with ``n`` clusters and ``s`` the standard deviation of the paired differences per cluster. For plain
means over single items these are simply ``a_i - b_i``; for weighted means and for ``exp`` they are the
linearised ones (delta method). At 5% and 80% the factor is 1.960 + 0.842 = 2.802.

Where the difference is the same on every item, the bootstrap would claim to be certain. For scores
between 0 and 1 the rule of three is used instead: none in n bounds the share of other items by 3/n with
95% confidence (Hanley and Lippman-Hand, JAMA 1983).

Beside the interval stand other tests of the same difference (`tasks.evaluation.cross_checks`).

Example:
    Candidate right on items 1, 2 and 3 of 4, champion on item 1 only: difference 0.75 - 0.25 = 0.5,
    paired differences 0, 1, 1, 0, s = 0.577, detectable 2.802 x 0.577 / 2 = 0.809.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.contracts.record import Record
from tasks.evaluation.bootstrap import Floats, cluster_numbers, count_units, interval, sum_units
from tasks.evaluation.cross_checks import CrossChecks, cross_check
from tasks.evaluation.metrics.metric import Metric, Scores

Result = Literal["better", "worse", "undecided"]
IntervalMethod = Literal["expanded", "bca"]


class SeedSpread(Record):
    """The same comparison with models of several training seeds, see `tasks.evaluation.held_out.seeds`.

    Attributes:
        differences: That of each seed, the candidate's first.
        deviation: Their standard deviation.
        low: Lower end of the interval of their mean, of the items alone.
        high: Upper end.
    """

    differences: list[float]
    deviation: float
    low: float
    high: float


class Comparison(Record):
    """Model a against model b on one metric.

    Attributes:
        mean_a: Score of a.
        mean_b: Score of b.
        difference: ``mean_a - mean_b``.
        low: Lower end of the interval of the difference.
        high: Upper end.
        detectable: Smallest difference detectable with the stated power.
        items: Items scored.
        higher_is_better: Direction of the metric.
        checks: The same difference tested in other ways; None where it was not.
        seeds: How it varies with the seed of the training; None where one was trained.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    detectable: float
    items: int
    higher_is_better: bool
    checks: CrossChecks | None = None
    # Not in verdicts over one seed, which then are what they were.
    seeds: SeedSpread | None = Field(default=None, exclude_if=lambda spread: spread is None)

    @property
    def result(self) -> Result:
        """Whether a is better or worse than b, the interval being clear of zero."""
        if self.low > 0:
            return "better" if self.higher_is_better else "worse"
        if self.high < 0:
            return "worse" if self.higher_is_better else "better"
        return "undecided"

    @property
    def possible_worsening(self) -> float:
        """By how much a may be worse than b: the unfavourable end of the interval; negative where it rules that out."""
        return -self.low if self.higher_is_better else self.high

    def widen(self, factor: float) -> Comparison:
        """The comparison with an interval so many times as wide, and the other tests to go with it."""
        low, high = (self.difference + factor * (end - self.difference) for end in (self.low, self.high))
        checks = self.checks and self.checks.widen(factor)
        update = {"low": low, "high": high, "detectable": factor * self.detectable, "checks": checks}
        return self.model_copy(update=update)

    def stays_within(self, margin: float) -> bool:
        """Whether the interval rules out a worsening by more than a margin; not where it is not a number."""
        return self.possible_worsening <= margin


def compare(
    metric: Metric,
    a: Scores,
    b: Scores,
    replicates_a: Floats,
    replicates_b: Floats,
    clusters: Sequence[str],
    confidence: float,
    power: float,
    interval_method: IntervalMethod = "expanded",
    tail: bool = False,
) -> Comparison:
    """Compare two models on one metric.

    Args:
        metric: The metric.
        a: Scores of model a.
        b: Scores of model b, on the same items.
        replicates_a: Resampled means of a, before any ``exp``.
        replicates_b: Resampled means of b, from the same draws.
        clusters: Cluster of each item.
        confidence: Confidence level of the interval.
        power: Power at which the smallest detectable difference is stated.
        interval_method: How the ends of the interval are found.
        tail: The tests are widened afterwards, so tell their p however small it is.
    """
    mean_a, mean_b = mean(metric, a), mean(metric, b)
    difference = mean_a - mean_b
    error = standard_error(metric, a, b, clusters)
    units = count_units(a.weights, clusters)
    if error > 0:
        replicates = scale(metric, replicates_a) - scale(metric, replicates_b)
        unit = cluster_numbers(clusters)
        moved = influences(metric, a, unit) - influences(metric, b, unit)
        skew = (difference, moved) if interval_method == "bca" else None
        low, high = interval(replicates, confidence, units, skew)
        factor = NormalDist().inv_cdf(1 - (1 - confidence) / 2) + NormalDist().inv_cdf(power)
        detectable = factor * error
    else:
        detectable = min(1.0, 3 / units) if metric.bounded else 0.0
        low, high = difference - detectable, difference + detectable
        if metric.bounded:
            low, high = max(-1.0, low), min(1.0, high)
    return Comparison(
        mean_a=mean_a,
        mean_b=mean_b,
        difference=difference,
        low=low,
        high=high,
        detectable=detectable,
        items=a.items,
        higher_is_better=metric.higher_is_better,
        checks=cross_check(metric, a, b, clusters, tail=tail),
    )


def mean(metric: Metric, scores: Scores) -> float:
    """The score of a model: the weighted mean or its ``exp``, or what its tally gives."""
    if scores.tally is not None:
        return float(scores.tally.combine(scores.tally.counts.sum(axis=0)))
    average = float((scores.values * scores.weights).sum() / scores.weights.sum())
    return math.exp(average) if metric.exponentiated else average


def scale(metric: Metric, means: Floats) -> Floats:
    """Means on the scale of the metric."""
    return np.exp(means) if metric.exponentiated else means


def standard_error(metric: Metric, a: Scores, b: Scores, clusters: Sequence[str]) -> float:
    """Standard error of the paired difference, clustered and linearised; 0 where it does not vary."""
    unit = cluster_numbers(clusters)
    weight = sum_units(a.weights[:, None], unit)[:, 0]
    scored = (influences(metric, a, unit) - influences(metric, b, unit))[weight > 0]
    if scored.size < 2:
        return 0.0
    # Rounding leaves some 1e-17 where the differences are equal.
    deviation = float(scored.std(ddof=1)) * scored.size
    return deviation / math.sqrt(scored.size) if deviation > 1e-12 else 0.0


def influences(metric: Metric, scores: Scores, unit: NDArray[np.int64]) -> Floats:
    """By how much each cluster moves the score; of a tally by leaving it out (the jackknife)."""
    if scores.tally is not None:
        sums = sum_units(scores.tally.counts, unit)
        without = scores.tally.combine(sums.sum(axis=0) - sums)
        return np.asarray((without.mean() - without) * (len(without) - 1) / len(without), dtype=np.float64)
    return sum_units(_influence(metric, scores)[:, None], unit)[:, 0]


def _influence(metric: Metric, scores: Scores) -> Floats:
    total = scores.weights.sum()
    residuals = scores.weights * (scores.values - (scores.values * scores.weights).sum() / total) / total
    factor = mean(metric, scores) if metric.exponentiated else 1.0
    return np.asarray(residuals * factor, dtype=np.float64)
