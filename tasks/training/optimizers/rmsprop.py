"""RMSprop: each weight's step is divided by the root of its mean squared gradient (Hinton 2012, lecture 6e of "Neural
networks for machine learning").

    v = smoothing v + (1 - smoothing) g^2        w = w - lr g / (sqrt(v) + epsilon)

Adagrad whose memory fades, so that steps do not shrink for ever; Adam without the mean of the gradient. Good for noisy
objectives that change while one trains. It keeps 4 bytes a weight, with momentum 8. Weight decay is added to the
gradient.

Example: ``optimizer: {name: rmsprop}`` with ``learning_rate: 1.0e-3``. The mean starts at zero and is not corrected:
the first step is 1 / sqrt(1 - 0.99) = 10 times the learning rate, for which a warm-up is good.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class RMSprop(Section):
    """A running mean of the squared gradient of each weight."""

    can: ClassVar[OptimizerCan] = USUAL

    name: Literal["rmsprop"] = "rmsprop"
    smoothing: float = Field(default=0.99, ge=0, lt=1, description="share of the mean squared gradient kept at a step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="share of the last update that is added to the next")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return (2 if self.momentum else 1) * BYTES * trained.total

    def describe(self) -> str:
        return f"RMSprop (momentum {self.momentum:g})" if self.momentum else "RMSprop"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import RMSprop as TorchRMSprop

        return TorchRMSprop(groups, alpha=self.smoothing, eps=self.epsilon, momentum=self.momentum)
