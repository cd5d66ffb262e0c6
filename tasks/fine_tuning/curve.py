"""The loss curve of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SKIPPED = "skipped_steps"  # key of the trainer's log: steps skipped so far, written before the next one


@dataclass(frozen=True)
class Point:
    """One logged step.

    Attributes:
        step: Optimizer steps done.
        loss: Mean training loss since the previous point, nats per unit of the objective: token, pair.
        eval_loss: Validation loss, in the same.
        lr: Learning rate of the step.
        grad_norm: Norm of the gradient before clipping.
        figures: The objective's, means since the previous point; those of validation with ``eval_`` before the name.
    """

    step: int
    loss: float | None = None
    eval_loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


def read_curve(history: Iterable[Mapping[str, Any]], figures: Iterable[str] = ()) -> list[Point]:
    """The curve from a trainer's log, one point per step, without times.

    Args:
        history: The log.
        figures: Names of the objective's figures.
    """
    own = [f"{prefix}{name}" for name in figures for prefix in ("", "eval_")]
    names = {"loss": "loss", "eval_loss": "eval_loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    points: dict[int, dict[str, float]] = {}
    found: dict[int, dict[str, float]] = {}
    for entry in history:
        values = {name: float(entry[key]) for key, name in names.items() if key in entry}
        if values:
            points.setdefault(int(entry["step"]), {}).update(values)
            found.setdefault(int(entry["step"]), {}).update({key: float(entry[key]) for key in own if key in entry})
    return [Point(step, **fields, figures=found[step]) for step, fields in sorted(points.items())]


def list_skipped(history: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    """The steps of a trainer's log that changed nothing, since their loss or gradient was not a number."""
    return tuple(int(entry["step"]) + 1 for entry in history if SKIPPED in entry)


def split_phases(curve: Sequence[Point], borders: Sequence[int]) -> list[list[Point]]:
    """The points of each phase; the last step of one is also the point at which the next begins, before it trains.

    Args:
        curve: Of all phases, in order.
        borders: Steps after which another phase begins.
    """
    parts: list[list[Point]] = [[]]
    ahead = list(borders)
    for point in curve:
        if ahead and parts[-1] and (point.step > ahead[0] or point.step == parts[-1][-1].step == ahead[0]):
            parts.append([])
            del ahead[0]
        parts[-1].append(point)
    return parts


def smooth(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential moving average, without the bias towards its start."""
    smoothed, total, norm = [], 0.0, 0.0
    for value in values:
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        smoothed.append(total / norm)
    return smoothed


def find_last_loss(points: Sequence[Point]) -> float | None:
    """The last logged training loss: the mean over the steps since the one logged before it; None without any."""
    return next((point.loss for point in reversed(points) if point.loss is not None), None)
