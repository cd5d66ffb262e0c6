"""Lion: every weight moves by the learning rate, up or down, by the sign of a mean of momentum and gradient (Chen et
al. 2023, arXiv:2302.06675; the rule was found by a search over programs).

    c = beta1 m + (1 - beta1) g        m = beta2 m + (1 - beta2) g
    w = w - lr (sign(c) + weight_decay w)

Good where AdamW's memory is too much and its quality wanted: it keeps 4 bytes a weight, half of AdamW's. Because a
sign is larger than AdamW's ratio, the learning rate should be 3 to 10 times smaller and the weight decay as much
larger. Small batches make its signs noisy; the paper's gains are at 64 rows and more.

Example: ``optimizer: {name: lion}`` with ``learning_rate: 2.0e-4`` where AdamW has 1.0e-3; after ten steps of a
gradient that never changes its sign, a weight has moved by 0.002.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights

HIGHEST_RATE = 1e-3


class Lion(Section):
    """The sign of a mean of momentum and gradient."""

    can: ClassVar[OptimizerCan] = replace(USUAL, rate_shares=(0.1, 1 / 3))

    name: Literal["lion"] = "lion"
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the momentum in the direction of a step")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="share of the momentum kept at each step")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        if use.learning_rate <= HIGHEST_RATE:
            return []
        return [
            f"learning_rate {use.learning_rate:g} is high for Lion, whose steps are 3 to 10 times AdamW's; up to "
            f"{HIGHEST_RATE:g} is usual"
        ]

    def state_bytes(self, trained: TrainedWeights) -> int:
        return BYTES * trained.total

    def describe(self) -> str:
        return "Lion"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.lion import LionUpdate

        return LionUpdate(groups, self.beta1, self.beta2)
