"""Chi-square on a yes/no feature: did the share of refusals or empty answers change?

Source: Pearson 1900, the two-by-two table. Good for flags.

Example: 2 of 10 refused in the baseline and 5 of 10 in the window: the effect is +0.3; pooled share 0.35,
standard error sqrt(0.35 * 0.65 * 0.2) = 0.213, so the statistic is 1.41 squared = 1.98.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, TrafficSample


class Rate(Section):
    """Change of the share of rows with a flag, 0 to 1."""

    name: Literal["rate"] = "rate"
    minimum_effect: float = Field(0.03, ge=0, le=1, description="smallest change of a share that raises an alert")

    def probes(self, sample: TrafficSample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        return [
            Probe(
                self.name,
                subject,
                "change of share",
                self.minimum_effect,
                share_change(flags),
                rise_at(float(flags[: sample.reference_rows].mean())),
                share_noise,
            )
            for subject, flags in sample.flags.items()
        ]


def share_change(flags: Array) -> Measure:
    """Chi-square and the difference of the shares, as functions of the count of each row."""

    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        n, m = reference.sum(axis=1), window.sum(axis=1)
        positives, window_positives = reference @ flags, window @ flags
        difference = window_positives / m - positives / n
        return difference**2 / pooled_variance(positives + window_positives, n, m), difference

    return measure


def pooled_variance(positives: Array, reference_rows: Array, window_rows: Array) -> Array:
    """Variance of a difference of shares if both samples share one rate; never zero."""
    import numpy as np

    total = reference_rows + window_rows
    share = np.clip(positives / total, 0.5 / total, 1 - 0.5 / total)
    variance: Array = share * (1 - share) * (1 / reference_rows + 1 / window_rows)
    return variance


def rise_at(base: float) -> Callable[[float, int, int], float]:
    """The rise above a baseline share that gives a chi-square, to a thousandth."""
    import numpy as np

    def effect_at(statistic: float, reference_rows: int, window_rows: int) -> float:
        n, m = np.array([float(reference_rows)]), np.array([float(window_rows)])
        rises = np.arange(0, 1 - base, 0.001)
        values = rises**2 / pooled_variance(base * n + (base + rises) * m, n, m)
        reached = np.flatnonzero(values >= statistic)
        return float(rises[reached[0]]) if reached.size else 1 - base

    return effect_at


def share_noise(effect: float, reference_rows: int, window_rows: int) -> float:
    """Standard deviation of a measured share of that size."""
    import numpy as np

    share = min(max(abs(effect), 1 / window_rows), 0.5)
    return float(np.sqrt(share * (1 - share) * (1 / reference_rows + 1 / window_rows)))
