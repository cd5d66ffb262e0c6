"""AdamW: each weight's step is its mean gradient over the root of its mean squared gradient, and weight decay is apart
from both (Loshchilov & Hutter 2019, arXiv:1711.05101; Adam: Kingma & Ba 2015, arXiv:1412.6980).

With gradient g, both means corrected for their start at zero:

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
    w = w - lr (m / (sqrt(v) + epsilon) + weight_decay w)

Good for nearly everything, and what learning rates of language models are stated for. It keeps two numbers a weight: 8
bytes, twice the weights themselves where all are trained; under LoRA next to nothing.

Example: ``optimizer: {name: adamw, fused: true}`` with ``learning_rate: 1.0e-3``. In the first step m / sqrt(v) is the
sign of the gradient, so every weight moves by 0.001, whatever the gradient's size.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class AdamW(Section):
    """Two running means a weight, and weight decay apart from them."""

    can: ClassVar[OptimizerCan] = USUAL

    name: Literal["adamw"] = "adamw"
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept at each step")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")
    fused: bool = Field(
        default=False, description="one kernel for all weights: a seventh of the time on a CPU, other last digits"
    )

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 2 * BYTES * trained.total

    def describe(self) -> str:
        return "AdamW, fused" if self.fused else "AdamW"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import AdamW as TorchAdamW

        return TorchAdamW(groups, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=self.fused or None)
