"""VB-LoRA: LoRA whose matrices are put together from one bank of trained vectors (Li et al. 2024, arXiv:2405.15179).

A and B of every layer are cut into parts of ``vector_length``, and each part is a mixture of the ``top`` vectors that
trained weights choose from the bank. Good for adapters that are stored by the thousand. Its parts have learning rates
of their own in the paper: ``parameter_groups: {learning_rates: {vblora_logits_A: 10, vblora_logits_B: 10}}``.

Example: ``method: {name: vblora, rank: 4, vector_length: 32}``. A bank of 256 x 32 for all layers, and in a layer of
320 x 320 2 x 4 x 10 x 256 = 20,480 weights that choose.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes, common_divisor, divisor_problem
from tasks.training.methods.method import Rates

LARGEST_VECTOR = 256


class VbLora(Adapter):
    """Train a bank of vectors and what mixes low-rank updates from it."""

    peft_type: ClassVar[str] = "VBLORA"
    title: ClassVar[str] = "VB-LoRA"
    rates: ClassVar[Rates] = (1e-3, 5e-2)

    name: Literal["vblora"] = "vblora"
    rank: int = Field(default=4, ge=1, description="inner dimension of the updates")
    vectors: int = Field(default=256, ge=2, description="vectors of the bank")
    vector_length: int | Literal["auto"] = Field(
        default="auto", description="length of each; auto: up to 256, such that it divides both sides of all layers"
    )
    top: int = Field(default=2, ge=1, description="vectors that a part is mixed from")

    def resolve(self, shape: ModelShape) -> Self:
        return super().resolve(shape).model_copy(update={"vector_length": self._length(shape)})

    def layer_problem(self, out: int, inner: int) -> str:
        if self.vector_length == "auto":
            return ""
        return divisor_problem("vector_length", self.vector_length, math.gcd(out, inner), "sides")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        assert self.vector_length != "auto", "counted for a resolved method"
        parts = inner // self.vector_length, out // self.vector_length
        return [(self.rank, parts[0], self.vectors), (parts[1], self.rank, self.vectors)]

    def shared_sizes(self, shape: ModelShape) -> Sizes:
        return [(self.vectors, self._length(shape))]

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        """The bank alone, which the layers share."""
        return [(self.vectors, self._length(shape))]

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The mixtures, and what they are mixed from."""
        return (self.top + 1) * self.rank * sum(out + inner for _, out, inner in self.layers(shape))

    def kept_per_token(self, shape: ModelShape) -> int:
        """The result of A of every adapted layer."""
        return self.rank * len(self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {
            "r": self.rank,
            "num_vectors": self.vectors,
            "vector_length": self.vector_length,
            "topk": self.top,
        }

    def details(self) -> str:
        return f"rank {self.rank}, {self.vectors} vectors"

    def _length(self, shape: ModelShape) -> int:
        if self.vector_length != "auto":
            return self.vector_length
        return common_divisor(self.layers(shape), LARGEST_VECTOR)
