"""Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392): the peak for most of
the run, then a fall to the floor in its last part.

Good for long runs: a checkpoint before the fall is worth going on from with more data. A fall over a fifth of the
steps along 1 - sqrt ends as low as a cosine over the whole run (Hägele et al.).

Example: ``schedule: {name: wsd, decay_share: 0.2}``. Of 1,000 steps the last 200 fall; at step 850, a quarter into the
fall, the rate is 1 - sqrt(0.25) = 0.5 of the peak.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.schedules.schedule import describe_floor


class WarmupStableDecay(Section):
    """The peak, and a fall at the end."""

    name: Literal["wsd"] = "wsd"
    decay_share: float = Field(default=0.2, gt=0, le=1, description="share of the steps with a falling rate")
    decay: Literal["sqrt", "linear", "cosine"] = Field(
        default="sqrt", description="shape of the fall: 1 - sqrt, a line, or half a cosine wave"
    )
    minimum_share: float = Field(default=0.0, ge=0, lt=1, description="floor, as a share of the peak")

    def problems(self, warmup_share: float) -> list[str]:
        if warmup_share + self.decay_share <= 1:
            return []
        return [
            f"schedule.decay_share: {self.decay_share:g} and warmup_share {warmup_share:g} are more than all steps; "
            f"set decay_share to at most {1 - warmup_share:g}"
        ]

    def describe(self) -> str:
        floor = describe_floor(self.minimum_share)
        return f"constant, falling in the last {self.decay_share:.0%} of the steps ({self.decay}){floor}"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        falling = min(steps, max(1, round(self.decay_share * (warmup_steps + steps))))
        at = min(1.0, max(0.0, (step - steps + falling) / falling))
        if self.decay == "linear":
            left = 1.0 - at
        elif self.decay == "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * at))
        else:
            left = 1.0 - math.sqrt(at)
        return left * (1 - self.minimum_share) + self.minimum_share
