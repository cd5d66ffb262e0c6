"""AdamW whose moments leave the GPU when its memory is short, and come back for the step (Dettmers et al. 2023, QLoRA,
arXiv:2305.14314, section 3; bitsandbytes).

The update is AdamW's, with moments of 32 or of 8 bits a number. They lie in memory that CUDA pages between GPU and
host, so that a long row does not end the run for want of memory, but makes that step slower.

Good on a GPU that is nearly full, above all under QLoRA. On a CPU there is nothing to page.

Example: ``optimizer: {name: paged_adamw, bits: 8}`` with AdamW's learning rate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.eight_bits import count_eight_bit_state
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class PagedAdamW(Section):
    """AdamW whose moments move between GPU and host as memory allows."""

    can: ClassVar[OptimizerCan] = replace(USUAL, sharded=False, library="bitsandbytes")

    name: Literal["paged_adamw"] = "paged_adamw"
    bits: Literal[8, 32] = Field(default=32, description="bits of each number of the moments")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept at each step")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        if use.device == "cuda":
            return []
        instead = "adamw_8bit" if self.bits == 8 else "adamw"
        return [
            f"optimizer paged_adamw pages between GPU and host, and this plan is for {use.device}; take optimizer: "
            f"{{name: {instead}}}"
        ]

    def state_bytes(self, trained: TrainedWeights) -> int:
        return count_eight_bit_state(trained) if self.bits == 8 else 2 * BYTES * trained.total

    def describe(self) -> str:
        return f"paged AdamW, {self.bits} bits"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.few_bits import FewBitAdamW

        return FewBitAdamW(groups, (self.beta1, self.beta2), self.epsilon, bits=self.bits, paged=True)
