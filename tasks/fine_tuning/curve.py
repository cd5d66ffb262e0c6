"""The loss curve of a run and its diagnosis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.pages.page import show

Shape = Literal["falling", "flat", "overfitting", "rising", "short"]

# Smaller relative changes of a loss are noise on a few hundred validation rows.
MINIMUM_CHANGE = 0.02
MINIMUM_POINTS = 3


@dataclass(frozen=True)
class Point:
    """One logged step.

    Attributes:
        step: Optimizer steps done.
        loss: Mean training loss since the previous point, nats per supervised token.
        eval_loss: Validation loss, nats per supervised token.
        lr: Learning rate of the step.
        grad_norm: Norm of the gradient before clipping.
    """

    step: int
    loss: float | None = None
    eval_loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """The shape of a curve, and advice.

    Attributes:
        shape: The shape in one word.
        text: A sentence or two, with what to do.
        best_step: Step of the lowest validation loss, if there is one.
    """

    shape: Shape
    text: str
    best_step: int | None


def read_curve(history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The curve from a trainer's log, one point per step, without times."""
    names = {"loss": "loss", "eval_loss": "eval_loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    points: dict[int, dict[str, float]] = {}
    for entry in history:
        values = {name: float(entry[key]) for key, name in names.items() if key in entry}
        if values:
            points.setdefault(int(entry["step"]), {}).update(values)
    return [Point(step, **fields) for step, fields in sorted(points.items())]


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


def diagnose(points: Sequence[Point]) -> Diagnosis:
    """Diagnose the validation losses, or the training losses where there are none."""
    validated = [(p.step, p.eval_loss) for p in points if p.eval_loss is not None]
    if not validated:
        return _diagnose_training([p.loss for p in points if p.loss is not None])
    first, last = validated[0][1], validated[-1][1]
    best_step, best = min(validated, key=lambda pair: pair[1])
    numbers = f"Validation loss {describe_loss(first, last)}"
    if len(validated) < MINIMUM_POINTS:
        return Diagnosis("short", f"{numbers}; there are too few validations for a diagnosis.", best_step)
    if last > best * (1 + MINIMUM_CHANGE) and best < first * (1 - MINIMUM_CHANGE):
        return Diagnosis(
            "overfitting",
            f"{numbers}, after its lowest value, {show(best)}, at step {best_step:,}: the model overfits. Train fewer "
            "epochs, lower the learning rate or add data.",
            best_step,
        )
    if last > first * (1 + MINIMUM_CHANGE):
        return Diagnosis("rising", f"{numbers}: training made the model worse. Lower the learning rate.", best_step)
    if last > first * (1 - MINIMUM_CHANGE):
        return Diagnosis(
            "flat",
            f"{numbers}: hardly anything was learned. Raise the learning rate, train longer, or check whether the "
            "model already knows the data.",
            best_step,
        )
    text = f"{numbers}, lowest at step {best_step:,}."
    before = validated[-2][1]
    if before > last * (1 + MINIMUM_CHANGE):
        text += " It was still falling at the end; more epochs may help."
    return Diagnosis("falling", text, best_step)


def describe_loss(first: float, last: float) -> str:
    """Which way a loss went: "fell from 3.451 to 0.171 nats per token"."""
    verb = "fell" if last < first * (1 - MINIMUM_CHANGE) else "rose" if last > first * (1 + MINIMUM_CHANGE) else "went"
    return f"{verb} from {show(first)} to {show(last)} nats per token"


def _diagnose_training(losses: Sequence[float]) -> Diagnosis:
    if len(losses) < MINIMUM_POINTS:
        return Diagnosis("short", "Too few steps for a diagnosis; there is no validation loss.", None)
    values = smooth(losses)
    first, last = values[0], values[-1]
    text = f"Training loss, smoothed, {describe_loss(first, last)}; there is no validation loss"
    if last > first * (1 + MINIMUM_CHANGE):
        return Diagnosis("rising", f"{text}: training made the model worse. Lower the learning rate.", None)
    if last > first * (1 - MINIMUM_CHANGE):
        return Diagnosis("flat", f"{text}: hardly anything was learned. Raise the learning rate or train longer.", None)
    return Diagnosis("falling", f"{text}, so overfitting would go unnoticed.", None)
