"""When runs end and which step is the best, on losses whose answer is plain."""

from __future__ import annotations

import math

import pytest

from tasks.training.stopping import Divergence, EarlyStopping, find_best_step, read_losses


def at_tens(*losses: float) -> list[tuple[int, float]]:
    return [(10 * number, loss) for number, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "patience", "improvement", "over"),
    [
        ((), 1, 0.0, False),
        ((3.0, 2.0, 1.0), 1, 0.0, False),
        ((3.0, 2.0, 2.5), 1, 0.0, True),
        ((3.0, 2.0, 2.5, 2.4), 3, 0.0, False),
        ((3.0, 2.0, 2.5, 2.4, 2.3), 3, 0.0, True),
        ((3.0, 2.0, 2.5, 1.9, 2.3), 2, 0.0, False),  # an improvement starts the count anew
        ((3.0, 2.95, 2.9), 2, 0.1, True),  # falls of less than 0.1 count for nothing
        ((3.0, 2.95, 2.85), 2, 0.1, False),  # but they add up
        ((3.0, 3.5, 4.0), 2, 0.0, True),  # never better than before the first step
    ],
)
def test_early_stopping(losses: tuple[float, ...], patience: int, improvement: float, over: bool) -> None:
    assert EarlyStopping(patience=patience, minimum_improvement=improvement).is_over(at_tens(*losses)) == over


def test_divergence_is_a_row_of_losses_far_above_the_best() -> None:
    guard = Divergence(factor=2.0, logs=3)
    assert guard.rising_since(at_tens(4.0, 2.0, 3.0)) is None
    # One average of 4 and 2, weights 0.16 and 0.2 of 0.36: 2.889. 7 and 9 are more than twice that.
    since, best, count = guard.rising_since(at_tens(4.0, 2.0, 7.0, 9.0)) or (0, 0.0, 0)
    assert (since, count) == (20, 2)
    assert best == pytest.approx((0.16 * 4 + 0.2 * 2) / 0.36)
    # A loss in between ends the row.
    assert guard.rising_since(at_tens(4.0, 2.0, 7.0, 4.0, 9.0)) == (40, pytest.approx(best, rel=0.2), 1)
    assert guard.rising_since(at_tens(4.0, 2.0, 7.0, 4.0)) is None


def test_a_multiple_of_next_to_nothing_is_no_divergence() -> None:
    assert Divergence(factor=2.0).rising_since(at_tens(0.01, 0.01, 0.4)) is None
    assert Divergence(factor=2.0).rising_since(at_tens(0.01, 0.01, 0.6)) is not None


def test_a_model_that_only_guesses_has_diverged() -> None:
    """With 5 nats before training three times the best is 15, and 8,192 tokens guessed at random are 9.0."""
    guess = math.log(8192)
    collapsed = at_tens(5.0, 4.1, 9.0, 9.0, 9.0)
    assert Divergence().rising_since(collapsed) is None
    since, _, count = Divergence().rising_since(collapsed, guess) or (0, 0.0, 0)
    assert (since, count) == (20, 3)
    assert Divergence().rising_since(at_tens(5.0, 4.1, 8.0), guess) is None
    # A base that guesses before it is trained has not diverged.
    assert Divergence().rising_since(at_tens(9.1, 9.0, 9.2, 9.3), guess) is None


def test_the_best_step_is_a_trained_one_and_the_earliest() -> None:
    assert find_best_step(at_tens(0.5, 2.0, 1.0, 1.0)) == 20
    assert find_best_step(at_tens(0.5)) is None
    history = [{"step": 0, "eval_loss": 3.0}, {"step": 5, "loss": 2.0}, {"step": 5, "eval_loss": 2.5}]
    assert read_losses(history, "eval_loss") == [(0, 3.0), (5, 2.5)]
