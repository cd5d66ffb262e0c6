"""The other tests of a difference are those of scipy and statsmodels, and hold their level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test, wilcoxon
from statsmodels.stats.contingency_tables import mcnemar

from tasks.evaluation.bootstrap import interval, replicate_means
from tasks.evaluation.cross_checks import CrossChecks, cross_check, sample_tail
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence, Scores
from tasks.evaluation.metrics.words.bleu import Bleu
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tests.tasks.evaluation.boards import make_items, make_outcome


def scores(values: list[float] | np.ndarray) -> Scores:
    return Scores(np.array(values, dtype=np.float64), np.ones(len(values)))


def alone(count: int) -> list[str]:
    return [str(place) for place in range(count)]


def test_ten_items_by_hand() -> None:
    found = cross_check(ExactMatch(), scores([1] * 9 + [0, 1, 0]), scores([0] * 9 + [1, 1, 0]), alone(12))
    assert (found.better, found.worse, found.ties) == (9, 1, 2)
    assert found.mcnemar == pytest.approx(2 * 11 / 2**10)


@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_the_packages(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.random(60) < 0.7).astype(float), (rng.random(60) < 0.5).astype(float)
    found = cross_check(ExactMatch(), scores(a), scores(b), alone(60))
    table = [[((a == x) & (b == y)).sum() for y in (1, 0)] for x in (1, 0)]
    assert found.mcnemar == pytest.approx(mcnemar(table, exact=True).pvalue)
    losses, others = rng.gamma(2, 1, 40), rng.gamma(2, 1.3, 40)
    found = cross_check(Loss(), scores(losses), scores(others), alone(40))
    assert found.mcnemar is None
    assert found.wilcoxon == pytest.approx(wilcoxon(losses, others).pvalue)
    expected = permutation_test(
        (losses, others), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=1,
    )  # fmt: skip
    assert found.permutation == pytest.approx(expected.pvalue, abs=0.015)


def test_near_duplicates_count_as_one() -> None:
    found = cross_check(ExactMatch(), scores([1, 1, 1, 0]), scores([0, 0, 0, 0]), ["a", "a", "a", "b"])
    assert (found.better, found.worse, found.ties) == (1, 0, 1)
    assert found.permutation == 1.0  # one unit, swapped or not: as far from zero


def test_equal_models_tie() -> None:
    found = cross_check(Loss(), scores([1, 2]), scores([1, 2]), alone(2))
    assert found == CrossChecks(better=0, worse=0, ties=2, permutation=1.0, wilcoxon=None, mcnemar=None)


def test_a_score_of_a_set_is_permuted_as_a_set() -> None:
    references = [f"we have moved the order {n} to next week" for n in range(12)]
    evidence = Evidence(make_items(references), None)
    good = Bleu().score(evidence, make_outcome("candidate", references))
    bad = Bleu().score(evidence, make_outcome("base", [f"we moved order {n} for you" for n in range(12)]))
    found = cross_check(Bleu(), good, bad, alone(12))
    assert (found.better, found.wilcoxon) == (12, None)
    assert found.permutation == pytest.approx(2 / 2**12, abs=0.001)
    assert cross_check(Bleu(), good, good, alone(12)).permutation == 1.0


def test_what_disagrees_is_named() -> None:
    found = CrossChecks(better=5, worse=5, ties=0, permutation=0.3, wilcoxon=0.001, mcnemar=None)
    assert found.disagree(decided=True, confidence=0.95) == ["permutation p = 0.3"]
    assert found.disagree(decided=False, confidence=0.95) == ["Wilcoxon p = 0.001"]


def test_the_permutation_test_holds_its_level() -> None:
    rng = np.random.default_rng(3)
    small = sum(
        cross_check(Loss(), scores(rng.gamma(2, 1, 25)), scores(rng.gamma(2, 1, 25)), alone(25)).permutation < 0.05
        for _ in range(200)
    )
    assert small <= 0.05 * 200 + 3 * np.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("seed", range(3))
def test_a_tail_below_the_draws_is_that_of_all_sign_changes(seed: int) -> None:
    """Of 16 units all 65,536 sign changes can be counted."""
    rng = np.random.default_rng(seed)
    for changes in (rng.normal(1.3, 0.5, 16), rng.integers(-1, 5, 16) / 4, np.r_[rng.gamma(1, 1, 13), -0.1, -0.05, 0]):
        signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
        exact = float((np.abs(signs @ changes) >= abs(changes.sum()) - 1e-9).mean())
        found = sample_tail(changes, seed)
        assert exact <= found <= 1.15 * exact or found == exact == 1.0, (exact, found)
    assert sample_tail(np.ones(40), 0) == 2.0**-39
    assert sample_tail(np.zeros(4), 0) == 1.0


def test_a_tail_is_told_where_it_is_asked_for_and_never_above_the_draws() -> None:
    better, worse = scores([1] * 60 + [0] * 5), scores([0] * 60 + [1] * 5)
    drawn = cross_check(ExactMatch(), better, worse, alone(65))
    told = cross_check(ExactMatch(), better, worse, alone(65), tail=True)
    assert drawn.permutation == pytest.approx(1 / 10_001)
    assert told.mcnemar == drawn.mcnemar
    # Of 0 and 1 it is McNemar's exact test.
    assert told.permutation == pytest.approx(told.mcnemar, rel=0.15)
    near = scores([1] * 12 + [0] * 53)
    assert cross_check(ExactMatch(), near, worse, alone(65), tail=True) == cross_check(
        ExactMatch(), near, worse, alone(65)
    )


def test_bca_misses_a_skewed_mean_equally_often_on_both_sides() -> None:
    """The mean of 60 lognormal values: percentiles miss it four times as often from below as from above."""
    rng = np.random.default_rng(2)
    missed = {"expanded": np.zeros(2), "bca": np.zeros(2)}
    truth = np.exp(0.5)
    for trial in range(400):
        values = rng.lognormal(0, 1, 60)
        drawn = replicate_means(values[:, None], np.ones((60, 1)), alone(60), 1_000, trial)[:, 0]
        for name, skew in (("expanded", None), ("bca", (values.mean(), values - values.mean()))):
            low, high = interval(drawn, 0.95, 60, skew)
            missed[name] += (truth < low, truth > high)
    assert missed["bca"][1] < missed["expanded"][1]
    assert missed["bca"][1] / max(1, missed["bca"][0]) < missed["expanded"][1] / max(1, missed["expanded"][0])


def test_bca_is_scipys() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).lognormal(0, 1, 2_000)
    drawn = replicate_means(values[:, None], np.ones((2_000, 1)), alone(2_000), 4_000, 0)[:, 0]
    found = interval(drawn, 0.95, 2_000, (values.mean(), values - values.mean()))
    expected = bootstrap((values,), np.mean, n_resamples=4_000, method="BCa", rng=0).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), rel=0.01)
