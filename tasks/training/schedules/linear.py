"""Linear: a straight line from the peak to the floor.

Good as a default where the number of steps is known (Defazio et al. 2023, arXiv:2310.07831).

Example: ``schedule: {name: linear}``. Halfway between warm-up and end the rate is half the peak.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.schedules.schedule import describe_floor


class Linear(Section):
    """A straight line to the floor."""

    name: Literal["linear"] = "linear"
    minimum_share: float = Field(default=0.0, ge=0, lt=1, description="floor, as a share of the peak")

    def problems(self, warmup_share: float) -> list[str]:
        return []

    def describe(self) -> str:
        return f"linear{describe_floor(self.minimum_share)}"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        return max(0.0, (steps - step) / steps) * (1 - self.minimum_share) + self.minimum_share
