"""C3A: the update is made of circular matrices, each a trained vector that is shifted from row to row (Chen et al.
2024, arXiv:2407.19342).

A layer of out x in is cut into blocks of ``block_size``, and the update of each is the circular matrix of one trained
vector, zero at first, multiplied by fast Fourier transforms. Good for updates of high rank with few weights.

Example: ``method: {name: c3a, block_size: 32}``. A layer of 320 x 320 gets 10 x 10 vectors of 32: 3,200 trained
weights.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes, common_divisor, divisor_problem

LARGEST_BLOCK = 256


class C3a(Adapter):
    """Train circular updates of blocks of the weights."""

    peft_type: ClassVar[str] = "C3A"
    title: ClassVar[str] = "C3A"
    takes_transposed: ClassVar[bool] = False

    name: Literal["c3a"] = "c3a"
    block_size: int | Literal["auto"] = Field(
        default="auto", description="side of a block; auto: up to 256, such that it divides both sides of all layers"
    )

    def resolve(self, shape: ModelShape) -> Self:
        return super().resolve(shape).model_copy(update={"block_size": self._block(shape)})

    def layer_problem(self, out: int, inner: int) -> str:
        if self.block_size == "auto":
            return ""
        return divisor_problem("block_size", self.block_size, math.gcd(out, inner), "sides")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        assert self.block_size != "auto", "counted for a resolved method"
        return [(out // self.block_size, inner // self.block_size, self.block_size)]

    def settings(self) -> dict[str, Any]:
        return {"block_size": self.block_size, "init_weights": True}

    def details(self) -> str:
        return f"blocks of {self.block_size}" if self.block_size != "auto" else ""

    def _block(self, shape: ModelShape) -> int:
        return self.block_size if self.block_size != "auto" else common_divisor(self.layers(shape), LARGEST_BLOCK)
