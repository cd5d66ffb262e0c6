"""Kolmogorov-Smirnov: the largest gap between two cumulative distributions.

Source: Kolmogorov 1933, Smirnov 1948. Good for any change of one number's distribution: level, spread,
shape. Needs no bins and no assumption on the shape. Weak where most rows share one value and few rows of the window
have another; such features are compared by `level`.

Example: baseline 1, 2, 3, 4 and window 3, 4, 5, 6 differ most at 2, where the cumulative shares are
0.5 and 0: the distance is 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, TrafficSample


class Distance(Section):
    """Largest gap between the cumulative distributions of a feature, 0 to 1."""

    name: Literal["distance"] = "distance"
    minimum_effect: float = Field(0.1, ge=0, le=1, description="smallest distance that raises an alert, 0 to 1")

    def probes(self, sample: TrafficSample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        return [
            Probe(
                self.name,
                subject,
                "KS distance",
                self.minimum_effect,
                ks_distance(values),
                effect_at,
                distance_noise,
            )
            for subject, values in sample.numbers.items()
            if not sample.is_spike(subject) and subject not in sample.recounted
        ]


def ks_distance(values: Array) -> Measure:
    """The distance as a function of the count of each row."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # Equal values are one step of the distribution.
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))

    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        weights = reference / reference.sum(axis=1, keepdims=True) - window / window.sum(axis=1, keepdims=True)
        steps = np.add.reduceat(weights[:, order], starts, axis=1)
        largest = np.abs(np.cumsum(steps, axis=1)).max(axis=1)
        return largest, largest

    return measure


def effect_at(statistic: float, reference_rows: int, window_rows: int) -> float:
    """The statistic is the effect itself."""
    return statistic


def distance_noise(effect: float, reference_rows: int, window_rows: int) -> float:
    """Standard deviation of a measured distance: that of a share of one half, the worst case."""
    import numpy as np

    return 0.5 * float(np.sqrt(1 / reference_rows + 1 / window_rows))
