"""Uni-LoRA: one trained vector for the whole model, of which every number of every layer's A and B is one (Li et al.
2025, arXiv:2506.00799).

A and B of rank ``rank`` beside each layer are read from a vector of ``length`` numbers, at places drawn once, each
divided by the root of how often its number is used, which keeps distances. Good for the smallest adapters: the vector
is all there is to keep. A and B both begin at random, as in the paper, so that the first step is a little off the base;
in front of routers of experts, where a tie may fall the other way, more for single tokens.

Example: ``method: {name: unilora, length: 4096}`` with ``learning_rate: 1.0e-2``: 4,096 trained weights, whatever the
model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can, Rates


class UniLora(Adapter):
    """Train one vector that all updates are made of."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "UNILORA"
    title: ClassVar[str] = "Uni-LoRA"
    rates: ClassVar[Rates] = (1e-3, 1e-1)

    name: Literal["unilora"] = "unilora"
    rank: int = Field(default=4, ge=1, description="inner dimension of the updates")
    length: int = Field(default=4096, ge=1, description="trained numbers")
    seed: int = Field(default=42, ge=0, description="of the draw of places")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return []

    def shared_sizes(self, shape: ModelShape) -> Sizes:
        return [(self.length,)]

    def held_bytes(self, shape: ModelShape) -> int:
        """Place and scale of every number of A and B, 12 bytes together."""
        return 12 * self.rank * sum(out + inner for _, out, inner in self.layers(shape))

    def kept_per_token(self, shape: ModelShape) -> int:
        return self.rank * len(self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """A and B, and the numbers that they are scaled from."""
        return 2 * self.rank * sum(out + inner for _, out, inner in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "theta_d_length": self.length, "proj_seed": self.seed}

    def details(self) -> str:
        return f"{self.length:,} numbers, rank {self.rank}"
