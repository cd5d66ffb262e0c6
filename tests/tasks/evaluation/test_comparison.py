"""Differences, intervals and smallest detectable differences, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluation.comparison import Comparison, compare
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.likelihoods.perplexity import Perplexity
from tasks.evaluation.metrics.metric import Metric, Scores
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.scoring import Key, resample

Z = 1.959964 + 0.841621


def run(
    metric: Metric, a: list[float], b: list[float], weights: list[float] | None = None, clusters: str = ""
) -> Comparison:
    weighed = np.array(weights or [1.0] * len(a))
    scores: dict[Key, Scores] = {
        ("candidate", "x"): Scores(np.array(a), weighed),
        ("base", "x"): Scores(np.array(b), weighed),
    }
    names = list(clusters) or [str(place) for place in range(len(a))]
    drawn = resample(scores, names, 2_000, 0)
    return compare(metric, *scores.values(), *drawn.values(), names, 0.95, 0.8)


def test_four_items_by_hand() -> None:
    found = run(ExactMatch(), [1, 1, 1, 0], [1, 0, 0, 0])
    assert (found.mean_a, found.mean_b, found.difference, found.items) == (0.75, 0.25, 0.5, 4)
    # Paired differences 0 1 1 0: variance 4 x 0.25 / 3.
    assert found.detectable == pytest.approx(Z * math.sqrt(1 / 3) / 2, rel=1e-5)
    assert found.detectable == pytest.approx(0.809, abs=5e-4)
    assert found.low == 0
    assert found.high == 1
    assert found.result == "undecided"


def test_loss_weighs_tokens() -> None:
    found = run(Loss(), [1.0, 2.0], [2.0, 4.0], weights=[2, 6])
    assert (found.mean_a, found.mean_b) == (1.75, 3.5)
    # Influences: tokens x (loss - mean) / 8 are -0.1875 and 0.1875 for a, twice that for b.
    assert found.detectable == pytest.approx(Z * math.sqrt(2) * math.hypot(0.1875, 0.1875), rel=1e-5)
    assert found.result == "better"


def test_perplexity_is_exponentiated_after_the_mean() -> None:
    found = run(Perplexity(), [math.log(2), math.log(8)], [math.log(4), math.log(16)])
    assert (found.mean_a, found.mean_b) == (pytest.approx(4), pytest.approx(8))
    assert found.difference == pytest.approx(-4)
    # Delta method: 4 x residuals of a minus 8 x residuals of b; both residuals are -+ ln 2, so s = 4 ln 2 x sqrt 2.
    assert found.detectable == pytest.approx(Z * 4 * math.log(2), rel=1e-5)
    # Draws of the first item twice give 2 - 4, of the second twice 8 - 16.
    assert (found.low, found.high) == (pytest.approx(-8), pytest.approx(-2))
    assert found.result == "better"


def test_clusters_count_once() -> None:
    alone = run(ExactMatch(), [1, 1, 0, 0], [0, 0, 0, 0])
    paired = run(ExactMatch(), [1, 1, 0, 0], [0, 0, 0, 0], clusters="aabb")
    # Two clusters that differ by 1 and 0: s = sqrt(1/2), n = 2.
    assert paired.detectable == pytest.approx(Z * math.sqrt(0.5) / math.sqrt(2), rel=1e-5)
    assert paired.detectable > alone.detectable


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [([1] * 60, [1] * 60, -0.05, 0.05), ([1] * 60, [0] * 60, 0.95, 1.0), ([0] * 60, [1] * 60, -1.0, -0.95)],
)
def test_no_spread_falls_back_on_the_rule_of_three(a: list[float], b: list[float], low: float, high: float) -> None:
    found = run(ExactMatch(), a, b)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.detectable == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("low", "high", "higher", "result", "worst"),
    [
        (0.1, 0.3, True, "better", -0.1),
        (0.1, 0.3, False, "worse", 0.3),
        (-0.3, -0.1, True, "worse", 0.3),
        (-0.3, -0.1, False, "better", -0.1),
        (-0.1, 0.2, True, "undecided", 0.1),
        (-0.1, 0.2, False, "undecided", 0.2),
        (0.0, 0.2, True, "undecided", 0.0),
    ],
)
def test_direction(low: float, high: float, higher: bool, result: str, worst: float) -> None:
    found = Comparison(
        mean_a=0, mean_b=0, difference=0, low=low, high=high, detectable=0, items=9, higher_is_better=higher
    )
    assert found.result == result
    assert found.possible_worsening == pytest.approx(worst)


losses = st.lists(st.tuples(st.floats(0, 8), st.floats(0, 8), st.integers(1, 40)), min_size=3, max_size=25)


@settings(deadline=None, max_examples=60)
@given(losses)
def test_perplexity_and_loss_agree_on_who_is_better(rows: list[tuple[float, float, int]]) -> None:
    a, b, weights = ([float(row[part]) for row in rows] for part in range(3))
    loss, perplexity = run(Loss(), a, b, weights), run(Perplexity(), a, b, weights)
    margin = 1e-9
    if loss.low > margin or loss.high < -margin:
        assert perplexity.result == loss.result
    if loss.low < -margin and loss.high > margin:
        assert perplexity.result == "undecided"


@settings(deadline=None, max_examples=60)
@given(losses)
def test_swapping_the_models_mirrors_the_comparison(rows: list[tuple[float, float, int]]) -> None:
    a, b, weights = ([float(row[part]) for row in rows] for part in range(3))
    there, back = run(Loss(), a, b, weights), run(Loss(), b, a, weights)
    assert (back.difference, back.low, back.high) == (
        pytest.approx(-there.difference, abs=1e-9),
        pytest.approx(-there.high, abs=1e-9),
        pytest.approx(-there.low, abs=1e-9),
    )
    assert back.detectable == pytest.approx(there.detectable, abs=1e-9)


def test_a_true_difference_of_the_detectable_size_is_seen_as_often_as_the_power_says() -> None:
    rng = np.random.default_rng(11)
    items, seen, trials = 100, 0, 200
    size = Z / math.sqrt(items)
    for _ in range(trials):
        changes = rng.normal(size, 1, items)
        seen += run(Loss(), (-changes).tolist(), [0.0] * items).result == "better"
    # Three standard deviations of 200 trials at 80% are 8.5 points.
    assert 0.715 <= seen / trials <= 0.885
