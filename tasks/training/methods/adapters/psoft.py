"""PSOFT: an orthogonal rotation between the largest singular vectors of each layer's weights (2026,
https://openreview.net/forum?id=FSHrinMArK).

Of W the largest ``rank`` singular values with their vectors are B A; they become B diag(b) R diag(a) A, where R is
orthogonal (the Cayley transform of a skew-symmetric matrix) and R, a and b are trained; the rest of W stays. Good for
keeping what the base knows, as OFT, at a cost that does not grow with the layer's width.

Example: ``method: {name: psoft, rank: 32}``. A layer of any size gets 32 x 31 / 2 + 2 x 32 = 560 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class Psoft(Adapter):
    """Train rotations of the main directions of each layer."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "PSOFT"
    title: ClassVar[str] = "PSOFT"
    takes_transposed: ClassVar[bool] = False

    name: Literal["psoft"] = "psoft"
    rank: int = Field(default=32, ge=2, description="singular vectors that are rotated")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.rank * (self.rank - 1) // 2,), (self.rank,), (self.rank,)]

    def held_bytes(self, shape: ModelShape) -> int:
        """A and B of each layer, and the places of the rotation's numbers, 8 bytes each."""
        places = 2 * 8 * (self.rank * (self.rank - 1) // 2)
        return sum(4 * self.rank * (out + inner) + places for _, out, inner in self.layers(shape))

    def kept_per_token(self, shape: ModelShape) -> int:
        """What is between A and B, before and after the rotation."""
        return 2 * self.rank * len(self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The rotation, and what it is solved from."""
        return 6 * self.rank**2 * len(self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "psoft_alpha": self.rank}

    def details(self) -> str:
        return f"rank {self.rank}"
