"""GLoRA: two low-rank matrices beside each layer, one of which multiplies its weights (Chavan et al. 2023,
arXiv:2306.07967).

A layer y = W x becomes y = (W + W * A + B) x, number by number, with A and B each a product of two thin matrices of
rank ``rank``, zero at the start. Of the paper's five terms these are those for layers without biases. Good where
changes in proportion to the weights and beside them are both wanted; twice LoRA's trained weights.

Example: ``method: {name: glora, rank: 8}``. A layer of 320 x 320 gets 2 x 8 x 640 = 10,240 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class GLora(Adapter):
    """Train updates in proportion to the weights, and beside them."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "GLORA"
    title: ClassVar[str] = "GLoRA"
    takes_transposed: ClassVar[bool] = False

    name: Literal["glora"] = "glora"
    rank: int = Field(default=8, ge=1, description="inner dimension of either matrix")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return 2 * [(out, self.rank), (self.rank, inner)]

    def held_bytes(self, shape: ModelShape) -> int:
        """Zeros in the place of the terms of a bias."""
        return 4 * sum(2 * out + inner for _, out, inner in self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """A, and the changed weights."""
        return 2 * self.adapted_weights(shape)

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "config_A_B": "lora", "config_C": "none", "config_D_E": "none"}

    def details(self) -> str:
        return f"rank {self.rank}"
