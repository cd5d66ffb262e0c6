"""The bootstrap draws what it says: exact small cases, whole clusters, and intervals that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.bootstrap import count_units, interval, replicate_means


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_two_items_give_the_three_possible_means_in_their_proportions() -> None:
    drawn = replicate_means(column([0, 1]), column([1, 1]), ["a", "b"], 20_000, seed=1)[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    # The standard deviation of a share of 1/4 in 20,000 draws is 0.003.
    assert counts / 20_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.015)


def test_weights_are_drawn_with_their_items() -> None:
    drawn = replicate_means(column([0, 1]), column([1, 3]), ["a", "b"], 500, seed=1)[:, 0]
    assert set(drawn.tolist()) == {0, 0.75, 1}


def test_clusters_are_drawn_whole() -> None:
    # Items 1 and 2 are one cluster: means can only be 0, (0 + 0 + 1 + 1 + 1 ...) as clusters allow.
    drawn = replicate_means(column([0, 0, 1]), column([1, 1, 1]), ["a", "a", "b"], 2_000, seed=0)[:, 0]
    assert {round(value, 9) for value in drawn.tolist()} == {0, round(1 / 3, 9), 1}


def test_columns_share_their_draws() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    both = replicate_means(np.hstack([values, values + 2]), np.ones((50, 2)), [str(i) for i in range(50)], 300, 0)
    assert both[:, 1] - both[:, 0] == pytest.approx(np.full(300, 2.0))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    import tasks.evaluation.bootstrap as bootstrap

    values, clusters = column([0, 1, 2, 3]), list("abcd")
    whole = replicate_means(values, np.ones((4, 1)), clusters, 100, seed=3)
    assert whole.shape == (100, 1)
    assert np.array_equal(whole, replicate_means(values, np.ones((4, 1)), clusters, 100, seed=3))
    assert not np.array_equal(whole, replicate_means(values, np.ones((4, 1)), clusters, 100, seed=4))
    monkeypatch.setattr(bootstrap, "_COUNTS_PER_CHUNK", 40)
    parts = replicate_means(values, np.ones((4, 1)), clusters, 100, seed=3)
    assert parts.shape == (100, 1)
    assert np.isin(parts * 4, np.arange(13)).all()


def test_interval_leaves_out_draws_without_items() -> None:
    # With very many units the tails are the plain 2.5%.
    low, high = interval(np.array([np.nan, *np.arange(101.0)]), 0.95, units=10**8)
    # Scores that were drawn, the nearest ones outside of 2.5 and 97.5.
    assert (low, high) == (2, 98)
    assert all(np.isnan(interval(np.array([np.nan]), 0.95, units=5)))


def test_few_units_widen_the_interval_as_published() -> None:
    # Of 10 units: t = 2.26216, times sqrt(10 / 9) = 2.38453, and the normal tail beyond that is 0.00855.
    low, high = interval(np.arange(100_001.0), 0.95, units=10)
    assert low / 100_000 == pytest.approx(0.00855, abs=1e-5)
    assert high / 100_000 == pytest.approx(1 - 0.00855, abs=1e-5)
    assert interval(np.arange(5.0), 0.95, units=1) == (0, 4)


def test_units_are_clusters_with_weight() -> None:
    assert count_units(np.array([1.0, 2.0, 0.0, 1.0]), ["a", "a", "b", "c"]) == 2


@pytest.mark.parametrize("clustered", [False, True])
def test_interval_covers_the_true_difference_as_often_as_it_says(clustered: bool) -> None:
    """Candidate and opponent share the item's hardness; the candidate is truly 0.3 better."""
    rng = np.random.default_rng(7)
    trials, items = 1_000, 120
    clusters = [str(place // 3 if clustered else place) for place in range(items)]
    covered = 0
    for trial in range(trials):
        hardness = rng.normal(size=items)
        # Near-duplicates are answered alike: drawn one by one, their intervals would be far too narrow.
        change = np.repeat(rng.normal(size=items // 3), 3) if clustered else rng.normal(size=items)
        values = np.column_stack([hardness, hardness + 0.3 + change])
        drawn = replicate_means(values, np.ones_like(values), clusters, 1_000, seed=trial)
        low, high = interval(drawn[:, 1] - drawn[:, 0], 0.95, len(set(clusters)))
        covered += low <= 0.3 <= high
    # Three standard deviations of 1,000 trials at 95%.
    assert 0.929 <= covered / trials <= 0.971, covered / trials
