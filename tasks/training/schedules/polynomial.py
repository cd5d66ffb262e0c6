"""Polynomial: a power of what is left of the run.

A power of 1 is linear; larger ones fall early and end flat.

Example: ``schedule: {name: polynomial, power: 2.0}``. Halfway between warm-up and end the rate is 0.25 of the peak.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.schedules.schedule import describe_floor


class Polynomial(Section):
    """A power of the share of the steps that is left."""

    name: Literal["polynomial"] = "polynomial"
    power: float = Field(default=2.0, gt=0, description="power of the share of the steps that is left")
    minimum_share: float = Field(default=0.0, ge=0, lt=1, description="floor, as a share of the peak")

    def problems(self, warmup_share: float) -> list[str]:
        return []

    def describe(self) -> str:
        return f"polynomial of power {self.power:g}{describe_floor(self.minimum_share)}"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        left = math.pow(max(0.0, (steps - step) / steps), self.power)
        return left * (1 - self.minimum_share) + self.minimum_share
