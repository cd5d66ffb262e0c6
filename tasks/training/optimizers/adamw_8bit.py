"""AdamW with moments of 8 bits a number, each block of 256 with a scale of its own (Dettmers et al. 2022,
arXiv:2110.02861; bitsandbytes).

The update is AdamW's; between steps each moment is kept as one of 256 levels, which lie dense near zero. Embeddings,
whose gradients differ most in size, and tensors of fewer than 4,096 numbers keep 32 bits.

Good for training all weights on one GPU: 2 bytes a weight instead of 8, with no loss of quality in the paper's tasks.
Under LoRA there is little to save.

Example: ``optimizer: {name: adamw_8bit}`` with AdamW's learning rate; a layer of 4,096 x 4,096 keeps 32.5 MiB where
AdamW keeps 128 MiB.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.eight_bits import count_eight_bit_state
from tasks.training.optimizers.optimizer import USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class AdamW8bit(Section):
    """AdamW whose moments take one byte a number."""

    # Sharded, blocks would not be those of the tensors, nor embeddings known.
    can: ClassVar[OptimizerCan] = replace(USUAL, sharded=False, library="bitsandbytes")

    name: Literal["adamw_8bit"] = "adamw_8bit"
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept at each step")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return count_eight_bit_state(trained)

    def describe(self) -> str:
        return "8-bit AdamW"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.few_bits import FewBitAdamW

        return FewBitAdamW(groups, (self.beta1, self.beta2), self.epsilon, bits=8, paged=False)
