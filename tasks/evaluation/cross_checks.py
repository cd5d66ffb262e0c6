"""Other tests of the same difference, to be held against the bootstrap's interval.

All of them look at independent units: an item, or a cluster of near duplicates as one.

* Permutation (Fisher 1935; for NLP Dror et al., ACL 2018): where the models are the same, whose answer is whose does
  not matter, so in each of `FLIPS` draws the two swap a random half of the units; p is the share of draws whose
  difference is as far from zero as the one found, and so never below 1 in `FLIPS`. Where the p is widened afterwards
  (by folds or seeds), that floor would become one at which nothing is clear among many slices; the tail is then drawn
  from (`sample_tail`).
* Wilcoxon's signed ranks (Biometrics 1945), of the units' differences, scipy's, zeros left out.
* McNemar (Psychometrika 1947), for answers that are right or wrong: of the units on which the models differ, how many
  favour each; p from the binomial distribution, exact at any size.

Example:
    Of 10 items on which two models differ the first is right on 9: McNemar p = 2 x (10 + 1) / 2^10 = 0.0215.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.record import Record
from tasks.evaluation.bootstrap import Floats, cluster_numbers, sum_units
from tasks.evaluation.metrics.metric import Metric, Scores

FLIPS = 10_000
# Draws as far as the difference found, of which fewer tell the p only roughly.
RARE = 10
_FLIPS_PER_CHUNK = 2**23


class CrossChecks(Record):
    """The same difference, tested in other ways.

    Attributes:
        better: Units on which the first model is better.
        worse: Units on which the second is.
        ties: Units on which they are equal.
        permutation: Two-sided p of the permutation test.
        wilcoxon: That of Wilcoxon's signed ranks; None for a score of a set, and where all units tie.
        mcnemar: That of McNemar's exact test; None where values are not 0 or 1.
    """

    better: int
    worse: int
    ties: int
    permutation: float
    wilcoxon: float | None
    mcnemar: float | None

    def widen(self, factor: float) -> CrossChecks:
        """The tests of a difference whose standard error is so many times as large."""
        found = {"permutation": self.permutation, "wilcoxon": self.wilcoxon, "mcnemar": self.mcnemar}
        return self.model_copy(update={name: p if p is None else widen_p(p, factor) for name, p in found.items()})

    def disagree(self, decided: bool, confidence: float) -> list[str]:
        """The tests that see it otherwise than the interval does, with their p; at twice the level or half of it.

        Args:
            decided: Whether the interval excludes zero.
            confidence: Its level.
        """
        alpha = 1 - confidence
        found = {"permutation": self.permutation, "Wilcoxon": self.wilcoxon, "McNemar": self.mcnemar}
        return [
            f"{name} p = {p:.2g}"
            for name, p in found.items()
            if p is not None and (p > 2 * alpha if decided else p < alpha / 2)
        ]


def widen_p(p: float, factor: float) -> float:
    """A two-sided p whose distance from zero, in standard deviations of the normal distribution, is so many times
    smaller."""
    from scipy.special import ndtr, ndtri

    return p if factor == 1 else float(2 * ndtr(ndtri(p / 2) / factor))


def cross_check(
    metric: Metric, a: Scores, b: Scores, clusters: Sequence[str], seed: int = 0, tail: bool = False
) -> CrossChecks:
    """Test the difference of two models.

    Args:
        metric: The metric.
        a: Scores of the first model.
        b: Scores of the second, on the same items.
        clusters: Cluster of each item.
        seed: Seed of the permutations.
        tail: Tell a p of the permutation test that is below what its draws can show.
    """
    from scipy.stats import binomtest, wilcoxon

    unit = cluster_numbers(clusters)
    weights = sum_units(a.weights[:, None], unit)[:, 0]
    scored = weights > 0
    changes = sum_units(((a.values - b.values) * a.weights)[:, None], unit)[scored, 0] / weights[scored]
    changes = np.where(np.abs(changes) < 1e-12, 0.0, changes) * (1 if metric.higher_is_better else -1)
    better, worse = int((changes > 0).sum()), int((changes < 0).sum())
    differing = better + worse
    binary = a.tally is None and all(np.isin(one.values[one.weights > 0], (0, 1)).all() for one in (a, b))
    return CrossChecks(
        better=better,
        worse=worse,
        ties=int(scored.sum()) - differing,
        permutation=_permute(metric, a, b, unit, seed, tail),
        wilcoxon=float(wilcoxon(changes).pvalue) if differing and a.tally is None else None,
        mcnemar=(float(binomtest(better, differing).pvalue) if differing else 1.0) if binary else None,
    )


def _permute(metric: Metric, a: Scores, b: Scores, unit: NDArray[np.int64], seed: int, tail: bool) -> float:
    first, second = (sum_units(_counts(one), unit) for one in (a, b))
    rng = np.random.default_rng(seed)
    total, step = first + second, max(1, _FLIPS_PER_CHUNK // len(first))
    found = abs(_difference(metric, a, first.sum(axis=0), second.sum(axis=0)))
    # A difference that is the found one but for rounding is as far from zero.
    limit, far = float(found) * (1 - 1e-9) - 1e-12, 0
    for start in range(0, FLIPS, step):
        kept = rng.integers(0, 2, (min(step, FLIPS - start), len(first))).astype(np.float64)
        own = kept @ first + (1 - kept) @ second
        far += int((np.abs(_difference(metric, a, own, total.sum(axis=0) - own)) >= limit).sum())
    if tail and far < RARE and a.tally is None and np.allclose(first[:, 1], second[:, 1]):
        # With the same weights both means move by the same sum, and so does the difference of their exp.
        return min((far + 1) / (FLIPS + 1), sample_tail(first[:, 0] - second[:, 0], seed))
    return (far + 1) / (FLIPS + 1)


def sample_tail(changes: Floats, seed: int) -> float:
    """Two-sided p of the permutation test of a sum of differences, however small it is.

    Signs are drawn such that the sum found is the expected one, ``P(+) = 1 / (1 + exp(-2 s d))``, and each draw counts
    by how likely it is without a difference: importance sampling with exponential tilting (Siegmund, Annals of
    Statistics 1976; for permutation tests Mehta, Patel and Senchaudhuri, JASA 1988). Unbiased for the same p; two
    standard errors of the draws are added, so that it errs upwards. 1 where too few draws get there to tell.

    Args:
        changes: Of each unit, by how much the first model is above the second, weighted.
        seed: Seed of the draws.

    Example:
        20 units that all favour the first model: ``2 / 2^20`` = 1.9e-6, which is exact.
    """
    from scipy.optimize import brentq

    sizes = np.abs(changes[changes != 0])
    found = abs(float(changes.sum()))
    limit = found * (1 - 1e-9) - 1e-12
    total = float(sizes.sum())
    if not len(sizes) or not limit > 0:
        return 1.0
    if limit > total - 2 * float(sizes.min()):  # only where all units favour the same model
        return 2.0 ** (1 - len(sizes))
    scaled = sizes / sizes.max()

    def excess(slope: float) -> float:
        return float((scaled * np.tanh(slope * scaled)).sum()) - min(found, 0.999 * total) / float(sizes.max())

    high = 1.0
    while excess(high) < 0:
        high *= 2
    slope = float(brentq(excess, 0.0, high))
    tilt = slope * scaled
    cumulant = float(np.logaddexp(tilt, -tilt).sum() - len(tilt) * np.log(2))
    rng, step = np.random.default_rng(seed), max(1, _FLIPS_PER_CHUNK // len(sizes))
    weights = []
    for start in range(0, FLIPS, step):
        up = rng.random((min(step, FLIPS - start), len(sizes))) < 1 / (1 + np.exp(-2 * tilt))
        signs = np.where(up, 1.0, -1.0)
        weights.append(np.where(signs @ sizes >= limit, np.exp(cumulant - signs @ tilt), 0.0))
    drawn = np.concatenate(weights)
    if (drawn > 0).sum() < RARE**2:
        return 1.0
    return min(1.0, 2 * float(drawn.mean() + 2 * drawn.std(ddof=1) / np.sqrt(len(drawn))))


def _counts(scores: Scores) -> Floats:
    if scores.tally is not None:
        return scores.tally.counts
    return np.column_stack([scores.values * scores.weights, scores.weights])


def _difference(metric: Metric, scores: Scores, first: Floats, second: Floats) -> Floats:
    if scores.tally is not None:
        return scores.tally.combine(first) - scores.tally.combine(second)
    means = [sums[..., 0] / sums[..., 1] for sums in (first, second)]
    return np.exp(means[0]) - np.exp(means[1]) if metric.exponentiated else means[0] - means[1]
