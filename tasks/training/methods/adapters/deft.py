"""DEFT: what a layer says in some trained directions is taken away, and something trained is said there instead
(decompositional efficient fine-tuning, as PEFT has it).

A layer y = W x becomes y = (I - P relu(P)^T) W x + P R x with P of out x rank and R of rank x in, R beginning at what P
takes away. Good for putting in what contradicts the base: the old is removed where the new goes.

Example: ``method: {name: deft, rank: 16}``. A layer of 320 x 320 gets 16 x 640 = 10,240 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class Deft(Adapter):
    """Train directions of the results, and what is said in them."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "DEFT"
    reads_base: ClassVar[bool] = True
    title: ClassVar[str] = "DEFT"

    name: Literal["deft"] = "deft"
    rank: int = Field(default=16, ge=1, description="directions of each layer's results")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(out, self.rank), (self.rank, inner)]

    def kept_per_token(self, shape: ModelShape) -> int:
        """What is taken away, and the numbers in each direction before and after."""
        return sum(out + 2 * self.rank for _, out, _ in self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The directions as rows of the weights' inputs, and as they are cut at zero."""
        return self.rank * sum(out + inner for _, out, inner in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank}

    def details(self) -> str:
        return f"rank {self.rank}"
