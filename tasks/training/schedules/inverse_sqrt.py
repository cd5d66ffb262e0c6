"""Inverse square root (Vaswani et al. 2017, arXiv:1706.03762, section 5.3): the rate falls as 1 / sqrt(step).

Good for runs whose end is not known: the rate at a step does not depend on the number of steps. It falls from the end
of the warm-up, whose length is its time scale.

Example: ``schedule: {name: inverse_sqrt}``. After a warm-up of 100 steps the rate is half the peak at step 400.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.schedules.schedule import describe_floor


class InverseSquareRoot(Section):
    """The square root of warm-up steps over steps."""

    name: Literal["inverse_sqrt"] = "inverse_sqrt"
    minimum_share: float = Field(default=0.0, ge=0, lt=1, description="floor, as a share of the peak")

    def problems(self, warmup_share: float) -> list[str]:
        if warmup_share:
            return []
        return [
            "schedule: inverse_sqrt takes its time scale from the warm-up, and warmup_share is 0; set warmup_share, "
            "such as 0.05, or take schedule: {name: linear}"
        ]

    def describe(self) -> str:
        return f"inverse square root{describe_floor(self.minimum_share)}"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        scale = max(1, warmup_steps)  # a run of one step has no warm-up
        return max(self.minimum_share, math.sqrt(scale / (scale + step)))
