"""One axis of the parallel coordinates: where a value lies between 0 and 1, and what is written beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.pages.text import show_score
from tasks.search.run import show_value
from tasks.search.space import Dimension, Label, list_ends, to_value


@dataclass(frozen=True)
class AxisScale:
    """Places of the values of a key, or of losses.

    Attributes:
        labels: The listed values in their order; empty for numbers.
        low: The lowest number.
        high: The highest one.
        log: Whether distances are those of the logarithm.
        ticks: Places with their texts.
    """

    labels: tuple[Label, ...]
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, label: Label) -> float:
        """Where a value lies, 0 to 1."""
        if self.labels:
            return self.labels.index(label) / max(1, len(self.labels) - 1)
        value, low, high = float(label), self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low) if high > low else 0.5


def scale_values(dimension: Dimension) -> AxisScale:
    """The axis of a key."""
    labels = list_ends(dimension)
    if isinstance(dimension, list):
        places = [number / max(1, len(labels) - 1) for number in range(len(labels))]
        texts = [show_value(to_value(dimension, label)) for label in labels]
        return AxisScale(tuple(labels), 0.0, 1.0, False, tuple(zip(places, texts, strict=True)))
    ticks = tuple((place, show_value(end)) for place, end in zip((0.0, 1.0), labels, strict=True))
    return AxisScale((), dimension.low, dimension.high, dimension.log is not None, ticks)


def scale_losses(losses: Sequence[float]) -> AxisScale:
    """The axis of the losses, the lowest at the bottom."""
    low, high = min(losses, default=0.0), max(losses, default=1.0)
    ticks: tuple[Any, ...] = (
        ((0.0, show_score(low)), (1.0, show_score(high))) if high > low else ((0.5, show_score(low)),)
    )
    return AxisScale((), low, high, False, ticks)
