"""LOMO: SGD that updates each weight inside the backward pass, as soon as its gradient is there, and drops the
gradient (Lv et al. 2023, arXiv:2306.09782).

    w = w - lr (g + weight_decay w)

The gradients of all weights never exist together: memory is that of the weights, the activations and the largest
single gradient. The price is what needs all of them: clipping by their norm and accumulation are refused;
``clip_value`` limits each number instead, as the paper's section 3.3.1 does.

Good for training all weights where not even the gradients fit. It learns as SGD does, slower than AdaLOMO.

Example: ``optimizer: {name: lomo, clip_value: 0.1}`` with ``learning_rate: 0.1`` and ``clip_norm: 0``; a model of 1
billion weights needs 4 GB in fp32 for training where AdamW needs 16.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import INSIDE_BACKWARD, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Lomo(Section):
    """SGD inside the backward pass; nothing is kept, not even the gradients."""

    can: ClassVar[OptimizerCan] = INSIDE_BACKWARD

    name: Literal["lomo"] = "lomo"
    clip_value: float = Field(default=0.0, ge=0, description="largest size of each number of a gradient; 0 is off")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 0

    def describe(self) -> str:
        return f"LOMO (numbers clipped at {self.clip_value:g})" if self.clip_value else "LOMO"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.inside_backward import LomoUpdate

        return LomoUpdate(groups, self.clip_value)
