"""Cosine: half a cosine wave from the peak to the floor (Loshchilov and Hutter 2017, arXiv:1608.03983).

Good as a default: it stays near the peak for long and ends softly.

Example: ``schedule: {name: cosine, minimum_share: 0.1}``. Halfway between warm-up and end the rate is halfway between
peak and floor, 0.55 of the peak.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.schedules.schedule import describe_floor


class Cosine(Section):
    """Half a cosine wave to the floor."""

    name: Literal["cosine"] = "cosine"
    minimum_share: float = Field(default=0.0, ge=0, lt=1, description="floor, as a share of the peak")

    def problems(self, warmup_share: float) -> list[str]:
        return []

    def describe(self) -> str:
        return f"cosine{describe_floor(self.minimum_share)}"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        wave = max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step / steps))))
        return wave * (1 - self.minimum_share) + self.minimum_share
