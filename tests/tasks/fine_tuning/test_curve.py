"""The curve out of the trainer's log and what is said about it, on curves whose shape is known."""

from __future__ import annotations

import pytest

from tasks.fine_tuning.curve import Point, diagnose, read_curve, smooth


def curve(*eval_losses: float) -> list[Point]:
    return [Point(step=10 * n, eval_loss=loss) for n, loss in enumerate(eval_losses)]


def test_points_join_by_step_and_times_are_left_out() -> None:
    history = [
        {"step": 0, "eval_loss": 6.0, "epoch": 0},
        {"step": 5, "loss": 4.0, "learning_rate": 0.1, "grad_norm": 2.0, "epoch": 0.5},
        {"step": 5, "eval_loss": 4.5, "eval_runtime": 3.2},
        {"step": 5, "train_runtime": 9.0, "train_loss": 4.1, "total_flos": 1.0},
    ]
    assert read_curve(history) == [Point(0, eval_loss=6.0), Point(5, 4.0, 4.5, 0.1, 2.0)]


def test_smoothing_by_hand() -> None:
    # weights .5 and .25 of .75: (0.5 * 4 + 0.25 * 1) / 0.75
    assert smooth([1.0, 4.0], 0.5) == pytest.approx([1.0, 3.0])
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)


@pytest.mark.parametrize(
    ("points", "shape", "words"),
    [
        (curve(6.0, 4.0, 3.0, 2.99), "falling", "6.000 to 2.990"),
        (curve(6.0, 4.0, 3.0), "falling", "still falling"),
        (curve(6.0, 3.0, 2.0, 2.6), "overfitting", "2.000, at step 20"),
        (curve(2.0, 2.01, 1.99), "flat", "hardly anything"),
        (curve(2.0, 2.4, 3.0), "rising", "worse"),
        (curve(6.0, 3.0), "short", "too few"),
        ([Point(n, loss=5.0 - n) for n in range(4)], "falling", "no validation loss"),
        ([Point(n, loss=5.0) for n in range(4)], "flat", "no validation loss"),
        ([Point(1, loss=5.0)], "short", "Too few"),
    ],
)
def test_diagnosis(points: list[Point], shape: str, words: str) -> None:
    found = diagnose(points)
    assert found.shape == shape
    assert words in found.text
