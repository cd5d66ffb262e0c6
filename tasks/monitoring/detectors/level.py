"""Welch's t statistic: did the mean of a feature change?

Source: Welch 1947. Good for a feature that has one value in half of the rows or more and is large in a few
new rows, such as the share of digits, where the Kolmogorov-Smirnov distance stays as small as the share of new rows.
Only such features are compared, and those that depend on the split, such as the share of unknown words; the others are
left to `distance`, as every comparison costs power.

The effect is in standard deviations of all rows, baseline and window together: a baseline without variance makes no
shift infinite, and one unusual row in a large window stays a small one.

Example: baseline 0, 2 (mean 1) and window 3, 5 (mean 4); the four have sd 2.08, so the effect is 3 / 2.08 = 1.44. One
row of 4 in a window of 200 whose other rows, like all 200 of the baseline, are 0: 0.02 / 0.2 = 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, TrafficSample


class Level(Section):
    """Change of a feature's mean, in standard deviations of all rows."""

    name: Literal["level"] = "level"
    minimum_effect: float = Field(0.2, ge=0, description="smallest shift that raises an alert, sd of all rows")

    def probes(self, sample: TrafficSample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        measures = {subject: shift(values) for subject, values in sample.numbers.items() if sample.is_spike(subject)}
        measures |= {subject: shift_of(values_at) for subject, values_at in sample.recounted.items()}
        return [
            Probe(
                self.name, subject, "shift in standard deviations", self.minimum_effect, measure, shift_at, shift_noise
            )
            for subject, measure in measures.items()
        ]


def shift(values: Array) -> Measure:
    """Welch's statistic and the shift in standard deviations, as functions of the count of each row."""
    # Sums of squares lose precision far from zero.
    centred = values - values.mean()
    return shift_of(lambda _: centred[None, :])


def shift_of(values_at: Callable[[Array], Array]) -> Measure:
    """`shift` of a feature whose values, splits (or 1) x rows, depend on the baseline counts."""
    import numpy as np

    def moments(counts: Array, values: Array) -> tuple[Array, Array, Array]:
        rows = counts.sum(axis=1)
        mean, square = (
            counts @ each[0] if len(each) == 1 else np.einsum("sr,sr->s", counts, each) for each in (values, values**2)
        )
        mean = mean / rows
        variance = np.maximum(square / rows - mean**2, 0) * rows / np.maximum(rows - 1, 1)
        return rows, mean, variance

    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        values = values_at(reference)
        smallest = 1e-9 + 1e-6 * float(np.abs(values).max(initial=0.0))
        n, mean, variance = moments(reference, values)
        m, window_mean, window_variance = moments(window, values)
        total = np.sqrt(moments(reference + window, values)[2])
        difference = window_mean - mean
        error = np.sqrt(variance / n + window_variance / m)
        return np.abs(difference) / np.maximum(error, smallest), difference / np.maximum(total, smallest)

    return measure


def shift_at(statistic: float, reference_rows: int, window_rows: int) -> float:
    """The shift that gives this t, if the window has the variance of the baseline."""
    import numpy as np

    return statistic * float(np.sqrt(1 / reference_rows + 1 / window_rows))


def shift_noise(effect: float, reference_rows: int, window_rows: int) -> float:
    """Standard deviation of a measured shift, if the window has the variance of the baseline."""
    import numpy as np

    return float(np.sqrt(1 / reference_rows + 1 / window_rows))
