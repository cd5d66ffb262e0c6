"""Which trial is best, and by how much more than chance in the validation rows explains.

The loss of a model is ``sum(row losses) / sum(row tokens)``. Two models on the same rows differ by
``D = sum(d) / sum(n)`` with ``d`` the differences of the row losses, whose standard error is that of a ratio of means
(Cochran, "Sampling Techniques", 1977, section 6.4): with residuals ``r = d - D n`` of ``m`` rows,
``sqrt(m / (m - 1) sum(r^2)) / sum(n)``.

Example:
    Rows of 1 and 3 tokens, d = 1 and 1: D = 0.5, r = 0.5 and -0.5, so the standard error is sqrt(2 x 0.5) / 4 = 0.25.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.search.trials import SearchTrial

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gap:
    """How much higher the loss of one model is than that of another on the same rows.

    Attributes:
        difference: Nats per supervised token.
        low: Lower end of the interval of the given confidence.
        high: Upper end.
        rows: Rows that were compared.
    """

    difference: float
    low: float
    high: float
    rows: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def rank(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """The finished trials, the lowest loss first; of equal ones the earlier."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.loss is not None]
    return sorted(finished, key=lambda trial: (trial.loss, trial.number))


def compare(better: np.ndarray, worse: np.ndarray, confidence: float = CONFIDENCE) -> Gap | None:
    """The gap between two models, paired row by row; None where their rows are not the same.

    Args:
        better: Sum of the losses and number of the supervised tokens of each row, (rows, 2).
        worse: The same of the other model.
        confidence: Share of intervals that contain the true difference.
    """
    if better.shape != worse.shape or len(better) < 2 or not np.array_equal(better[:, 1], worse[:, 1]):
        return None
    from scipy.special import stdtrit

    tokens, difference = better[:, 1], worse[:, 0] - better[:, 0]
    mean = difference.sum() / tokens.sum()
    residuals = difference - mean * tokens
    rows = len(tokens)
    error = math.sqrt(rows / (rows - 1) * float(residuals @ residuals)) / float(tokens.sum())
    half = float(stdtrit(rows - 1, 1 - (1 - confidence) / 2)) * error
    return Gap(float(mean), float(mean) - half, float(mean) + half, rows)
