"""Welch's t statistic: did the mean of a feature change?

Source: Welch 1947. Good for a feature that has one value in half of the baseline or more and is large in a few
new rows, such as the share of unknown words, where the Kolmogorov-Smirnov distance stays as small as the
share of new rows. Only such features are compared; the others are left to `distance`, as every comparison costs power.

Example: baseline 0, 2 (mean 1, sd 1.41) and window 3, 5 (mean 4): the effect is 3 / 1.41 = 2.12
standard deviations of the baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, TrafficSample

# A baseline without variance would make every shift infinite.
LARGEST_EFFECT = 100.0


class Level(Section):
    """Change of a feature's mean, in standard deviations of the baseline."""

    name: Literal["level"] = "level"
    minimum_effect: float = Field(0.2, ge=0, description="smallest shift that raises an alert, baseline sd")

    def probes(self, sample: TrafficSample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        return [
            Probe(self.name, subject, "shift in sd", self.minimum_effect, shift(values), shift_at, shift_noise)
            for subject, values in sample.numbers.items()
            if sample.is_spike(subject)
        ]


def shift(values: Array) -> Measure:
    """Welch's statistic and the shift in baseline standard deviations, as functions of the count of each row."""
    # Sums of squares lose precision far from zero.
    import numpy as np

    centred = values - values.mean()
    smallest = 1e-9 + 1e-6 * float(np.abs(centred).max(initial=0.0))

    def moments(counts: Array) -> tuple[Array, Array, Array]:
        rows = counts.sum(axis=1)
        mean = counts @ centred / rows
        variance = np.maximum(counts @ centred**2 / rows - mean**2, 0) * rows / np.maximum(rows - 1, 1)
        return rows, mean, variance

    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        n, mean, variance = moments(reference)
        m, window_mean, window_variance = moments(window)
        difference = window_mean - mean
        error = np.sqrt(variance / n + window_variance / m)
        effect = np.clip(difference / np.maximum(np.sqrt(variance), smallest), -LARGEST_EFFECT, LARGEST_EFFECT)
        return np.abs(difference) / np.maximum(error, smallest), effect

    return measure


def shift_at(statistic: float, reference_rows: int, window_rows: int) -> float:
    """The shift that gives this t, if the window has the variance of the baseline."""
    import numpy as np

    return statistic * float(np.sqrt(1 / reference_rows + 1 / window_rows))


def shift_noise(effect: float, reference_rows: int, window_rows: int) -> float:
    """Standard deviation of a measured shift, if the window has the variance of the baseline."""
    import numpy as np

    return float(np.sqrt(1 / reference_rows + 1 / window_rows))
