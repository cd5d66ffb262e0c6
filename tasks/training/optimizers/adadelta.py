"""Adadelta: each weight's step is the gradient times the root of its mean squared step, over the root of its mean
squared gradient (Zeiler 2012, arXiv:1212.5701).

    v = rho v + (1 - rho) g^2        u = g sqrt(d + epsilon) / sqrt(v + epsilon)        d = rho d + (1 - rho) u^2
    w = w - lr u

A step has the unit of the weight, so that no learning rate has to be found: ``learning_rate: 1.0`` is the paper's
rule. Good where a rate cannot be searched for. It starts slowly, since d begins at zero, and keeps 8 bytes a weight.
Weight decay is added to the gradient.

Example: ``optimizer: {name: adadelta}`` with ``learning_rate: 1.0``: with epsilon 1e-6 and a gradient of 1 the first
step is sqrt(1e-6) / sqrt(0.1) = 0.0032.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights

LOWEST_RATE = 0.05


class Adadelta(Section):
    """Running means of the squared gradient and of the squared step of each weight."""

    can: ClassVar[OptimizerCan] = replace(USUAL, rate_shares=None)

    name: Literal["adadelta"] = "adadelta"
    rho: float = Field(default=0.9, ge=0, lt=1, description="share of both means kept at each step")
    epsilon: float = Field(default=1.0e-6, gt=0, description="added to both means; the first steps are its root")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        if use.learning_rate >= LOWEST_RATE:
            return []
        return [
            f"learning_rate {use.learning_rate:g} is low for Adadelta, whose rule already sizes its steps; 1.0 is usual"
        ]

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 2 * BYTES * trained.total

    def describe(self) -> str:
        return "Adadelta"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import Adadelta as TorchAdadelta

        return TorchAdadelta(groups, rho=self.rho, eps=self.epsilon)
