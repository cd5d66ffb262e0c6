"""What a loss curve says, in words and with what to do.

Everything is found from the numbers alone. The first shape that fits is the diagnosis, others are named after it:

* short: fewer than three validations, or logged training losses where there are none;
* diverging: the smoothed training loss ends half a nat and 30% above its lowest value;
* overfitting: the validation loss ends more than 2% above its lowest value, after a fall;
* rising: the validation loss ends more than 2% above where it began;
* flat: it ends within 2% of where it began;
* rate too high: while the learning rate is near its peak the smoothed loss rises by more than 10%, and falls below that
  again as the rate goes down;
* noisy: the training losses spread about their trend by more than 30% of it;
* plateau: from the third to the last quarter of the steps, with a rate that could still move it, the loss falls by
  less than 1%;
* rate too low: the loss falls about as fast at the end as in the middle, and by less than a third in all;
* underfitting: at the end the validation loss falls by more than 2% of its whole fall in a tenth of the run;
* falling: none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.fine_tuning.curve import Point, smooth
from tasks.pages.page import show

Shape = Literal[
    "falling", "flat", "overfitting", "rising", "short", "diverging", "rate too high", "rate too low", "noisy",
    "plateau", "underfitting",
]  # fmt: skip
Floats = NDArray[np.float64]

# Smaller relative changes of a loss are noise on a few hundred validation rows.
MINIMUM_CHANGE = 0.02
MINIMUM_POINTS = 3
# Fewer logged training losses have no trend that could be told from their noise.
MINIMUM_LOGGED = 12
DIVERGED = (1.3, 0.5)  # times the lowest smoothed loss, and nats above it
SPREAD = 0.3
STILL_FALLING = 0.02
STANDSTILL = 0.01
LINEAR = 0.6  # share of the fall in the middle that the fall at the end has to reach
NEAR_PEAK, ABLE = 0.7, 0.3  # shares of the peak learning rate


@dataclass(frozen=True)
class Diagnosis:
    """The shape of a curve, and advice.

    Attributes:
        shape: The shape in a word or three.
        text: A few sentences, with what to do.
        best_step: Step of the lowest validation loss, if there is one.
        marked_step: The step from which the diagnosis speaks, to be marked on a plot; None for the curve as a whole.
    """

    shape: Shape
    text: str
    best_step: int | None
    marked_step: int | None = None


@dataclass(frozen=True)
class _Finding:
    shape: Shape
    text: str
    step: int | None = None


def diagnose(points: Sequence[Point], unit: str = "nats per token", training: bool = True) -> Diagnosis:
    """Diagnose the validation losses together with the training losses, or these alone where there are no others.

    Args:
        points: The curve.
        unit: What a validation loss is counted in. It may be negative, as minus a reward is.
        training: Whether training losses tell anything, as `Objective.loss_tells` says.
    """
    validated = [(p.step, p.eval_loss) for p in points if p.eval_loss is not None]
    logged = [p for p in points if p.loss is not None] if training else []
    best_step, best = min(validated, key=lambda pair: pair[1]) if validated else (None, 0.0)
    if not validated and len(logged) < MINIMUM_POINTS:
        return Diagnosis("short", "Too few steps for a diagnosis; there is no validation loss.", None)
    losses = [loss for _, loss in validated] or smooth([p.loss for p in logged if p.loss is not None])
    numbers = "Validation loss" if validated else "Training loss, smoothed,"
    numbers += f" {describe_loss(losses[0], losses[-1], unit)}"
    if not validated:
        numbers += ", and there is no validation loss, so overfitting would go unnoticed"
    elif best_step:
        numbers += f", lowest, {show(best)}, at step {best_step:,}"
    found = _read_training(logged)
    if validated and len(validated) < MINIMUM_POINTS:
        text = f"{numbers}; there are too few validations for a diagnosis of their own."
        found = [one for one in found if one.shape in ("diverging", "noisy", "rate too high")]
        return Diagnosis("short", " ".join([text, *(one.text for one in found)]), best_step)
    found += _read_losses(losses, [step for step, _ in validated], best_step, validated=bool(validated))
    order = list(_RANKS)
    found.sort(key=lambda one: order.index(one.shape))
    # What is worse already says that it learned too little, or too fast.
    if found and found[0].shape in _FINAL:
        found = [one for one in found if one is found[0] or one.shape in ("noisy", "rate too high")]
    if not found:
        return Diagnosis("falling", f"{numbers}.", best_step)
    text = " ".join([f"{numbers}.", *dict.fromkeys(one.text for one in found)])
    return Diagnosis(found[0].shape, text, best_step, found[0].step)


_FINAL: tuple[Shape, ...] = ("diverging", "overfitting", "rising", "flat")
_RANKS: tuple[Shape, ...] = (*_FINAL, "rate too high", "noisy", "plateau", "rate too low", "underfitting")


def describe_loss(first: float, last: float, unit: str = "nats per token") -> str:
    """Which way a loss went: "fell from 3.451 to 0.171 nats per token", or "to -0.5 (minus the mean reward)"."""
    verb = "fell" if last < first - _noise(first) else "rose" if last > first + _noise(first) else "went"
    return f"{verb} from {show(first)} to {show(last)} {unit if 'per' in unit.split() else f'({unit})'}"


def _noise(loss: float) -> float:
    """By how much a loss of this size moves without a meaning."""
    return MINIMUM_CHANGE * abs(loss)


def _read_losses(
    losses: Sequence[float], steps: Sequence[int], best_step: int | None, validated: bool
) -> list[_Finding]:
    """What the validation losses say, or the smoothed training losses in their place."""
    first, last, best = losses[0], losses[-1], min(losses)
    if validated and last > best + _noise(best) and best < first - _noise(first):
        text = "The model overfits from there on. Keep the best step (training_setup.keep: best), train fewer epochs, "
        return [_Finding("overfitting", f"{text}lower the learning rate or add data.", best_step)]
    if last > first + _noise(first):
        return [_Finding("rising", "Training made the model worse. Lower the learning rate.")]
    if last > first - _noise(first):
        text = "Hardly anything was learned. Raise the learning rate, train longer, or check whether the model already "
        return [_Finding("flat", f"{text}knows the data.")]
    tenth = (losses[-2] - last) * steps[-1] / (steps[-1] - steps[-2]) / 10 if validated else 0.0
    if tenth > STILL_FALLING * (first - last):
        return [_Finding("underfitting", "It was still falling at the end; more epochs may help.", steps[-2])]
    return []


def _read_training(logged: Sequence[Point]) -> list[_Finding]:
    """What the training losses and learning rates say, where there are enough of them."""
    if len(logged) < MINIMUM_LOGGED:
        return []
    steps = [point.step for point in logged]
    losses = np.array([point.loss for point in logged], dtype=np.float64)
    trend, width = _find_trend(losses)
    found = []
    spread = float(np.median(np.abs(losses - trend) / trend)) * 1.4826
    # By how much noise alone may move the trend.
    noise = 6 * spread / width**0.5
    factor, nats = DIVERGED
    if trend[-1] > max((factor + 2 * noise) * trend.min(), trend.min() + nats):
        since = int(np.flatnonzero(trend <= 1.05 * trend.min())[-1])
        text = f"The training loss diverged after step {steps[since]:,}. Lower the learning rate or raise its warm-up."
        found.append(_Finding("diverging", text, steps[since]))
    if spread > SPREAD:
        text = f"Training losses spread by {spread:.0%} about their trend. Raise training_setup.accumulation_steps, so "
        found.append(_Finding("noisy", f"{text}that a step sees more rows."))
    rates = np.array([np.nan if point.lr is None else point.lr for point in logged])
    if np.isfinite(rates).all() and rates.max() > 0:
        found += _read_rates(steps, losses, trend, rates / rates.max(), spread, noise)
    return found


def _read_rates(
    steps: Sequence[int], losses: Floats, trend: Floats, share: Floats, spread: float, noise: float
) -> list[_Finding]:
    """What the trend says beside the learning rate, as a share of its peak."""
    found = []
    near = np.flatnonzero(share >= NEAR_PEAK)
    before = np.minimum.accumulate(trend)
    rises = trend[near] / before[near]
    worst = int(near[rises.argmax()])
    if rises.max() > 1.1 + noise and trend[-1] < before[worst]:
        text = f"At its peak the learning rate was too high: the training loss rose until step {steps[worst]:,}. "
        found.append(_Finding("rate too high", f"{text}Lower it by half, or raise its warm-up.", steps[worst]))
    if trend[0] - trend[-1] <= MINIMUM_CHANGE * trend[0]:
        return found
    _, second, third, last = (float(part.mean()) for part in np.array_split(losses, 4))
    error = spread * (8 / len(losses)) ** 0.5  # of the relative difference of two quarters
    able = share[-len(losses) // 4 :].max() >= ABLE
    if able and error < STANDSTILL and abs(third / last - 1) < STANDSTILL + 2 * error:
        start = _find_standstill(trend)
        text = f"Since about step {steps[start]:,} it has not moved. Train fewer epochs, or give it more to learn: "
        found.append(_Finding("plateau", f"{text}more data, more trainable weights.", steps[start]))
    early, late = second - third, third - last
    if trend[-1] > 2 / 3 * trend[0] and early > 3 * error * last and late > LINEAR * early:
        text = "It fell about as fast at the end as in the middle. Raise the learning rate, or train longer."
        found.append(_Finding("rate too low", text))
    return found


def _find_trend(losses: Floats) -> tuple[Floats, int]:
    """Running medians, smoothed, which single batches do not move; and the number of losses of a median."""
    width = max(3, len(losses) // 12 | 1)
    padded = np.pad(losses, width // 2, mode="edge")
    medians = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    padded = np.pad(medians, width // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, width).mean(axis=1), width


def _find_standstill(trend: Floats) -> int:
    """The first place from which on the trend stays within 2% of its end."""
    away = np.flatnonzero(np.abs(trend / trend[-1] - 1) > MINIMUM_CHANGE)
    return int(away[-1]) + 1 if len(away) else 0
