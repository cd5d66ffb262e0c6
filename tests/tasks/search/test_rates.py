"""The learning rate of each choice is looked for with one seed, and only the best is trained with all."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tasks.search.rates import REACH, choose_training, list_rates


def run(loss: Callable[[float, int], float], seeds: int = 3, start: float = 1e-3) -> list[tuple[float, int]]:
    """The trainings of a choice, in order."""
    ladder, found, order = list_rates(start), dict[int, dict[int, float]](), []
    while (training := choose_training(found, seeds)) is not None:
        rung, seed = training
        assert seed not in found.get(rung, {})
        found.setdefault(rung, {})[seed] = loss(ladder[rung], seed)
        order.append((ladder[rung], seed))
        assert len(order) < 40
    return order


def bowl(best: float) -> Callable[[float, int], float]:
    return lambda rate, seed: abs(math.log10(rate / best)) + seed / 1000


def test_the_ladder_has_half_orders_of_magnitude_around_its_start() -> None:
    rates = list_rates(1e-3)
    assert (len(rates), rates[REACH], rates[REACH + 1], rates[REACH + 2]) == (21, 1e-3, 3.2e-3, 1e-2)
    assert (rates[0], rates[-1]) == (1e-8, 100.0)


def test_the_best_rate_is_bracketed_by_tens_halved_once_and_trained_with_every_seed() -> None:
    assert run(bowl(4e-3)) == [(1e-3, 0), (1e-2, 0), (0.1, 0), (3.2e-3, 0), (3.2e-3, 1), (3.2e-3, 2)]
    assert run(bowl(1e-3)) == [(1e-3, 0), (1e-2, 0), (1e-4, 0), (3.2e-4, 0), (1e-3, 1), (1e-3, 2)]


@pytest.mark.parametrize("best", [1e-6, 2e-4, 3.0, 50.0])
def test_rates_that_are_orders_of_magnitude_away_are_found(best: float) -> None:
    trained = run(bowl(best))
    assert abs(math.log10(trained[-1][0] / best)) <= 0.5
    assert [seed for _, seed in trained[-2:]] == [1, 2]


def test_a_rate_that_was_lucky_with_the_first_seed_gives_way() -> None:
    """At 0.01 the first seed is best and the second diverges: the next best rate is trained instead."""

    def loss(rate: float, seed: int) -> float:
        return (0.0 if seed == 0 else math.inf) if rate == 1e-2 else bowl(2e-3)(rate, seed) + 1

    assert run(loss)[-3:] == [(1e-2, 1), (3.2e-3, 1), (3.2e-3, 2)]


def test_rates_that_fail_are_left_downwards_and_a_choice_that_always_fails_ends() -> None:
    assert run(lambda rate, seed: math.inf if rate > 1e-5 else 1.0)[-1] == (1e-5, 2)
    assert [rate for rate, _ in run(lambda rate, seed: math.inf)] == [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
