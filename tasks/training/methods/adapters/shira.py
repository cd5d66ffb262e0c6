"""SHiRA: a few weights of each layer, drawn at random, are trained where they are, as a sparse update (Bhardwaj et al.
2024, arXiv:2406.13175).

A layer y = W x becomes y = (W + S) x, S with rank x (out + in) numbers that are not zero, as many as LoRA trains. Good
for switching adapters fast and for using several at once: they seldom touch the same weights. The update has full rank.

Example: ``method: {name: shira, rank: 16}``. A layer of 320 x 320 gets 16 x 640 = 10,240 of its 102,400 weights
trained.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes


class Shira(Adapter):
    """Train a sparse update of each layer."""

    peft_type: ClassVar[str] = "SHIRA"
    title: ClassVar[str] = "SHiRA"
    takes_transposed: ClassVar[bool] = False

    name: Literal["shira"] = "shira"
    rank: int = Field(default=16, ge=1, description="rank x (out + in) weights of a layer are trained")
    seed: int = Field(default=17, ge=0, description="of the draw of places")

    def largest_rank(self, out: int, inner: int) -> int:
        return out * inner // (out + inner)

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.rank * (out + inner),)]

    def held_bytes(self, shape: ModelShape) -> int:
        """Row and column of every trained weight, 4 bytes each."""
        return 2 * 4 * self.trainable(shape)

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The changed weights as a whole."""
        return self.adapted_weights(shape)

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "mask_type": "random", "random_seed": self.seed}

    def details(self) -> str:
        return f"rank {self.rank}"
