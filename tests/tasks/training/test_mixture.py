"""Shares follow the formula, and every row of a task comes once before any comes again, whatever the epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.training.mixture import UNLABELLED, Mixture, count_tasks, draw_epoch

TASKS = np.array([0] * 90 + [1] * 10)


def test_shares_follow_the_temperature() -> None:
    counts = {"a": 900, "b": 100}
    assert Mixture().quotas(counts) == counts
    assert Mixture(temperature=2).quotas(counts) == {"a": 750, "b": 250}
    assert Mixture(temperature=1e6).quotas(counts) == {"a": 500, "b": 500}
    assert Mixture(weights={"a": 1, "b": 3}).quotas(counts) == {"a": 250, "b": 750}
    assert Mixture(weights={"a": 1, "b": 1, "c": 1}).quotas({"a": 5, "b": 3, "c": 2}) == {"a": 4, "b": 3, "c": 3}


def test_a_proportional_epoch_has_every_row_once() -> None:
    for epoch in range(3):
        assert sorted(draw_epoch(TASKS, [90, 10], 7, epoch)) == list(range(100))
    assert not np.array_equal(draw_epoch(TASKS, [90, 10], 7, 0), draw_epoch(TASKS, [90, 10], 7, 1))


def test_a_task_is_repeated_only_after_all_of_its_rows() -> None:
    quotas = [63, 37]
    seen: Counter[int] = Counter()
    for epoch in range(5):
        drawn = draw_epoch(TASKS, quotas, 3, epoch)
        assert count_tasks(TASKS[drawn], ("a", "b")) == {"a": 63, "b": 37}
        seen.update(drawn.tolist())
        for members in (range(90), range(90, 100)):
            times = [seen[row] for row in members]
            assert max(times) - min(times) <= 1
    # An epoch does not depend on those before it.
    assert np.array_equal(draw_epoch(TASKS, quotas, 3, 4), drawn)
    assert not np.array_equal(draw_epoch(TASKS, quotas, 4, 4), drawn)


def test_weights_that_do_not_fit_are_told_with_the_tasks_there_are() -> None:
    assert Mixture(weights={"a": 1, "c": 1}).problems({"a": 5, "b": 3}) == [
        "mixture.weights: no weight for b and no rows of c; expected a weight for each of a, b"
    ]
    assert Mixture(by="label").problems({UNLABELLED: 3}) == [
        "mixture.by: label, but no row has a label; set mixture.by: source"
    ]
    assert Mixture(weights={"a": 1}).problems({"a": 5}) == []
    with pytest.raises(ValidationError, match="leave one out"):
        Mixture(temperature=2, weights={"a": 1})
    with pytest.raises(ValidationError, match="above 0"):
        Mixture(weights={"a": 0})
