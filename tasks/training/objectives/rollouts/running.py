"""Mean and deviation of numbers that come in parts (Chan et al. 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """Of all numbers so far.

    Attributes:
        count: How many.
        mean: Their mean.
        squares: Sum of the squares of their differences from it.
    """

    count: int
    mean: float
    squares: float

    def add(self, values: Sequence[float]) -> Running:
        """The same with more numbers."""
        if not values:
            return self
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        count, difference = self.count + len(values), mean - self.mean
        return Running(
            count,
            self.mean + difference * len(values) / count,
            self.squares + squares + difference**2 * self.count * len(values) / count,
        )

    @property
    def deviation(self) -> float:
        """The standard deviation; 1 where there are fewer than two numbers, or all are the same."""
        found = (self.squares / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0
        return found or 1.0
