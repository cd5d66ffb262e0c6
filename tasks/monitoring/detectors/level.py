"""Welch's t statistic: did the mean of a feature move?

Source: Welch 1947. Good for a feature that has one value in half of the baseline or more and is large in a few
new rows, such as the share of unknown words, where the Kolmogorov-Smirnov gap stays as small as the share
of new rows. Only such features are looked at; the others are `distance`'s: every further comparison costs power.

Example: baseline 0, 2 (mean 1, sd 1.41) and window 3, 5 (mean 4): the effect is 3 / 1.41 = 2.12
standard deviations of the baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, Sample

# A baseline without any spread would make every shift endless.
LARGEST = 100.0


class Level(Section):
    """Change of a feature's mean, in standard deviations of the baseline."""

    name: Literal["level"] = "level"
    minimum_effect: float = Field(0.2, ge=0, description="smallest shift that raises an alert, baseline sd")

    def probes(self, sample: Sample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        return [
            Probe(self.name, subject, "shift in sd", self.minimum_effect, shift(values), shift_at, shift_noise)
            for subject, values in sample.numbers.items()
            if sample.is_spike(subject)
        ]


def shift(values: Array) -> Measure:
    """Welch's statistic and the shift in baseline standard deviations, by how often each row counts."""
    import numpy as np

    # Sums of squares lose digits far from zero.
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
        moved = window_mean - mean
        error = np.sqrt(variance / n + window_variance / m)
        effect = np.clip(moved / np.maximum(np.sqrt(variance), smallest), -LARGEST, LARGEST)
        return np.abs(moved) / np.maximum(error, smallest), effect

    return measure


def shift_at(statistic: float, reference_rows: int, window_rows: int) -> float:
    """The shift that gives this t, when the window spreads like the baseline."""
    import numpy as np

    return statistic * float(np.sqrt(1 / reference_rows + 1 / window_rows))


def shift_noise(effect: float, reference_rows: int, window_rows: int) -> float:
    """Standard deviation of a measured shift, when the window spreads like the baseline."""
    import numpy as np

    return float(np.sqrt(1 / reference_rows + 1 / window_rows))
