"""Adagrad: each weight's step is divided by the root of the sum of all its squared gradients so far (Duchi et al.
2011, JMLR 12).

    s = s + g^2        w = w - lr g / (sqrt(s) + epsilon)

Good for sparse gradients, where rare features should move more when they do occur. The sum only grows, so that steps
shrink like one over the root of their number: long runs come to a stop. It keeps 4 bytes a weight. Weight decay is
added to the gradient.

Example: ``optimizer: {name: adagrad}`` with ``learning_rate: 1.0e-2``: a weight whose gradient is always 1 moves by
0.01, 0.0071, 0.0058, ...
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Adagrad(Section):
    """The sum of all squared gradients of each weight."""

    can: ClassVar[OptimizerCan] = USUAL

    name: Literal["adagrad"] = "adagrad"
    epsilon: float = Field(default=1.0e-10, gt=0, description="added to the root of the sum")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return BYTES * trained.total

    def describe(self) -> str:
        return "Adagrad"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import Adagrad as TorchAdagrad

        return TorchAdagrad(groups, eps=self.epsilon)
