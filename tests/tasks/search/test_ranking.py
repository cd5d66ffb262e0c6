"""The gap between two models, paired row by row: worked out by hand, and against draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.search.ranking import compare

# Of Student's t with one degree of freedom, at 97.5%.
T_ONE = 12.7062


def test_worked_example() -> None:
    better = np.array([[1.0, 1.0], [3.0, 3.0]])
    gap = compare(better, better + np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert gap is not None
    assert gap.difference == 0.5
    assert gap.high - gap.difference == pytest.approx(T_ONE * 0.25, rel=1e-4)
    assert not gap.is_clear


def test_rows_that_differ_are_not_compared() -> None:
    rows = np.array([[1.0, 2.0], [2.0, 3.0]])
    assert compare(rows, rows[:1]) is None
    assert compare(rows, rows + 1) is None
    assert compare(rows[:1], rows[:1]) is None


def test_the_interval_contains_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits, repeats = 0, 2000
    for _ in range(repeats):
        tokens = rng.integers(5, 60, 60).astype(float)
        base = tokens * rng.gamma(4, 0.25, 60)
        # A true difference of 0.02 nats per token, with noise of its own in each row.
        other = base + tokens * (0.02 + rng.normal(0, 0.1, 60))
        gap = compare(np.column_stack([base, tokens]), np.column_stack([other, tokens]))
        assert gap is not None
        hits += gap.low <= 0.02 <= gap.high
    assert abs(hits / repeats - 0.95) < 4 * math.sqrt(0.95 * 0.05 / repeats)
