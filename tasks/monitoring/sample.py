"""The input of the detectors: one row per answered request, the baseline first, then the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrafficSample:
    """Rows of the baseline and of the window, stacked.

    Attributes:
        reference_rows: Number of baseline rows, which come first; the rest are the window.
        prompts: Last user turn of each row.
        answers: Answer of each row.
        numbers: Name of a numeric feature to its value in each row.
        flags: Name of a binary feature to 0 or 1 in each row.
        embeddings: Rows x dimensions, unit length (or all zero for an empty prompt).
        recounted: Name of a numeric feature whose values depend on which rows are the baseline, to a function of the
            baseline counts (splits x rows) that returns them (splits x rows). ``numbers`` has those of the real split.
    """

    reference_rows: int
    prompts: Sequence[str]
    answers: Sequence[str]
    numbers: Mapping[str, Array]
    flags: Mapping[str, Array]
    embeddings: Array
    recounted: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.prompts)

    @property
    def window_rows(self) -> int:
        return self.rows - self.reference_rows

    def is_spike(self, subject: str) -> bool:
        """Whether at least half of all rows have the same value of a numeric feature."""
        values = self.numbers[subject]
        return bool(2 * np.unique(values, return_counts=True)[1].max() >= len(values))

    def observed(self) -> tuple[Array, Array]:
        """Count of each row in the baseline and in the window: 1 x rows each."""
        reference = np.zeros((1, self.rows))
        reference[:, : self.reference_rows] = 1.0
        return reference, 1.0 - reference


Measure = Callable[[Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Probe:
    """One comparison that a detector makes on a sample.

    Attributes:
        detector: Name of the detector.
        subject: The feature compared, in words.
        unit: Unit of its effect, in words.
        minimum_effect: Smaller effects raise no alert, however significant.
        measure: ``(baseline counts, window counts)``, each splits x rows, to ``(statistic, effect)``,
            one of each per split. A large statistic means a difference; an effect may be signed.
        effect_at: ``(statistic, baseline rows, window rows)`` to the effect that gives this statistic.
        noise: ``(effect, baseline rows, window rows)`` to the standard deviation of the measured effect.
    """

    detector: str
    subject: str
    unit: str
    minimum_effect: float
    measure: Measure
    effect_at: Callable[[float, int, int], float]
    noise: Callable[[float, int, int], float]

    @property
    def name(self) -> str:
        return f"{self.detector}: {self.subject}"


class Detector(Protocol):
    """A test of whether baseline and window differ. Its file in ``detectors/`` has its params."""

    @property
    def name(self) -> str: ...

    def probes(self, sample: TrafficSample) -> list[Probe]: ...
