"""SGD with momentum: a step along a fading sum of all gradients so far (Polyak 1964), or with the sum as it will be
after the step (Nesterov 1983; Sutskever et al. 2013, "On the importance of initialization and momentum in deep
learning").

    m = momentum m + g        w = w - lr m        Nesterov: w = w - lr (g + momentum m)

Directions in which gradients agree add up to 1 / (1 - momentum) times a single one, and those that change sign cancel,
so narrow valleys are crossed faster than by plain SGD. It keeps 4 bytes a weight. Weight decay is added to the
gradient.

Example: ``optimizer: {name: momentum, momentum: 0.9}`` with ``learning_rate: 0.05``: under a constant gradient of 1 a
weight moves by 0.05, 0.095, 0.1355, ... and at last by 0.5 a step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Momentum(Section):
    """SGD along a fading sum of gradients."""

    can: ClassVar[OptimizerCan] = replace(USUAL, rate_shares=None)

    name: Literal["momentum"] = "momentum"
    momentum: float = Field(default=0.9, gt=0, lt=1, description="share of the sum kept at each step")
    nesterov: bool = Field(default=False, description="look one step ahead")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return BYTES * trained.total

    def describe(self) -> str:
        return f"SGD with {'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import SGD

        return SGD(groups, momentum=self.momentum, nesterov=self.nesterov)
