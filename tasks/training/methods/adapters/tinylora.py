"""TinyLoRA: a handful of trained numbers for each layer, which mix random matrices between its singular vectors (Morris
et al. 2026, arXiv:2602.04118).

Of W the largest ``rank`` singular values with their vectors are B A; the update is B (sum of v_i P_i) A with random P_i
of rank x rank that stay and v of ``size`` numbers that are trained. Good for adapters of some hundred numbers, as
rewards can train them.

Example: ``method: {name: tinylora, size: 64}``: 64 trained weights a layer, whatever its size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can, Rates


class TinyLora(Adapter):
    """Train a few numbers for each layer."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "TINYLORA"
    reads_base: ClassVar[bool] = True
    title: ClassVar[str] = "TinyLoRA"
    rates: ClassVar[Rates] = (1e-3, 1e-1)

    name: Literal["tinylora"] = "tinylora"
    rank: int = Field(default=2, ge=1, description="singular vectors of a layer that are mixed")
    size: int = Field(default=64, ge=1, description="trained numbers of a layer")
    seed: int = Field(default=42, ge=0, description="of the random matrices")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.size,)]

    def held_bytes(self, shape: ModelShape) -> int:
        """A, B and the random matrices of each layer."""
        mixed = self.size * self.rank**2
        return sum(4 * (self.rank * (out + inner) + mixed) for _, out, inner in self.layers(shape))

    def kept_per_token(self, shape: ModelShape) -> int:
        """What is between A and B, before and after it is mixed."""
        return 2 * self.rank * len(self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "u": self.size, "projection_seed": self.seed}

    def details(self) -> str:
        return f"{self.size} numbers a layer, rank {self.rank}"
