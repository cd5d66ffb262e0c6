"""Cosine with restarts (SGDR; Loshchilov and Hutter 2017, arXiv:1608.03983): several cosine waves of the same length.

Good where each end of a wave is a model worth keeping, or to leave a poor minimum; with a checkpoint at each end,
``keep: best`` takes the best of them.

Example: ``schedule: {name: cosine_restarts, cycles: 3}``. Over 300 steps the rate falls to the floor three times, and
is back at the peak at steps 100 and 200.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.schedules.schedule import describe_floor


class CosineRestarts(Section):
    """Several cosine waves, each from the peak to the floor."""

    name: Literal["cosine_restarts"] = "cosine_restarts"
    cycles: int = Field(default=3, ge=1, description="waves of the run")
    minimum_share: float = Field(default=0.0, ge=0, lt=1, description="floor, as a share of the peak")

    def problems(self, warmup_share: float) -> list[str]:
        return []

    def describe(self) -> str:
        return f"cosine, {self.cycles} times{describe_floor(self.minimum_share)}"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        at = self.cycles * step % steps / steps if step < steps else 1.0
        return 0.5 * (1.0 + math.cos(math.pi * at)) * (1 - self.minimum_share) + self.minimum_share
