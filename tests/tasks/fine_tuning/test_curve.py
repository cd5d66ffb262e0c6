"""The curve out of the trainer's log and what is said about it, on curves whose shape is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts.manifest import read_json
from tasks.fine_tuning.curve import Point, find_last_loss, read_curve, smooth, split_phases
from tasks.fine_tuning.diagnosis import diagnose
from tasks.fine_tuning.report import plot_losses, write_losses


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


def test_the_last_loss_is_the_last_one_logged() -> None:
    points = [Point(1, loss=3.0), Point(5, loss=1.0), Point(9, eval_loss=2.0)]
    assert (find_last_loss(points), find_last_loss(curve(1.0))) == (1.0, None)


def test_smoothing_by_hand() -> None:
    # weights .5 and .25 of .75: (0.5 * 4 + 0.25 * 1) / 0.75
    assert smooth([1.0, 4.0], 0.5) == pytest.approx([1.0, 3.0])
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)


@pytest.mark.parametrize(
    ("points", "shape", "words"),
    [
        (curve(6.0, 4.0, 3.0, 2.99), "falling", "Validation loss fell from 6 to 2.99"),
        (curve(6.0, 4.0, 3.0), "underfitting", "still falling"),
        (curve(6.0, 3.0, 2.0, 2.6), "overfitting", "lowest, 2, at step 20. The model overfits"),
        (curve(2.0, 2.01, 1.99), "flat", "Hardly anything"),
        (curve(2.0, 2.4, 3.0), "rising", "rose from 2 to 3 nats per token. Training made the model worse"),
        (curve(2.0, 1.0, 3.0), "overfitting", "rose from 2 to 3"),
        (curve(0.309, 0.1, 0.0135), "underfitting", "fell from 0.309 to 0.0135"),
        (curve(6.0, 3.0), "short", "too few"),
        ([Point(n, loss=5.0 - n) for n in range(4)], "falling", "no validation loss"),
        ([Point(n, loss=5.0 - n) for n in range(4)], "falling", "Training loss, smoothed, fell from 5 to"),
        ([Point(n, loss=5.0) for n in range(4)], "flat", "went from 5 to 5"),
        ([Point(n, loss=5.0 + n) for n in range(4)], "rising", "rose from 5 to"),
        ([Point(1, loss=5.0)], "short", "Too few"),
    ],
)
def test_diagnosis(points: list[Point], shape: str, words: str) -> None:
    found = diagnose(points)
    assert found.shape == shape
    assert words in found.text


def test_losses_are_written_a_file_a_curve(tmp_path: Path) -> None:
    points = [Point(0, eval_loss=6.0), Point(5, 4.0, 4.5, 0.1, 2.0), Point(6, loss=3.5)]
    files = [tmp_path / name for name in ("training.json", "validation.json", "headline.json")]
    assert write_losses(points, *files) == {"loss": 4.5}
    training, validation, headline = (read_json(path) for path in files)
    assert [(row["step"], row["loss"]) for row in training] == [(5, 4.0), (6, 3.5)]
    assert validation == [{"step": 0, "loss": 6.0}, {"step": 5, "loss": 4.5}]
    assert headline == {"loss": 4.5}
    assert write_losses([Point(1, loss=2.34567)], *files) == {"loss": 2.346}


def test_no_line_joins_the_losses_of_two_phases() -> None:
    """Means over tokens and over pairs are of different sizes, and so are the averages of both."""
    first = [Point(0, eval_loss=4.3), Point(1, loss=4.2), Point(3, loss=4.0, eval_loss=3.9)]
    second = [Point(3, eval_loss=0.7), Point(4, loss=0.7), Point(6, loss=0.6, eval_loss=0.5)]
    assert split_phases([*first, *second], [3]) == [first, second]
    assert split_phases(first, []) == [first]
    (axes,) = plot_losses([*first, *second], unit="nats per pair", borders=[3]).axes
    drawn = [list(map(float, line.get_ydata())) for line in axes.lines if len(line.get_xdata()) > 1]
    assert not [values for values in drawn if max(values) > 1 > min(values) and values != [0, 1]]
    assert [4.3, 3.9] in drawn
    assert [0.7, 0.5] in drawn
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation", "phase 2 begins"]
    assert axes.get_ylabel() == "loss"
