"""Adam: each weight's step is its mean gradient over the root of its mean squared gradient (Kingma & Ba 2015,
arXiv:1412.6980).

With weight decay the gradient gets an L2 term first, g + weight_decay w; both means are corrected for their start at
zero:

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2        w = w - lr m / (sqrt(v) + epsilon)

The L2 term is divided by sqrt(v) too, so weights with large gradients hardly decay: AdamW repairs that, and without
weight decay the two are the same. Good for repeating work that was done with it. It keeps 8 bytes a weight.

Example: ``optimizer: {name: adam}`` with ``learning_rate: 1.0e-3``; in the first step every weight moves by 0.001.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Adam(Section):
    """Two running means a weight; weight decay inside the gradient."""

    can: ClassVar[OptimizerCan] = USUAL

    name: Literal["adam"] = "adam"
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept at each step")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 2 * BYTES * trained.total

    def describe(self) -> str:
        return "Adam"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import Adam as TorchAdam

        return TorchAdam(groups, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=True)
