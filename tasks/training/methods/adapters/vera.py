"""VeRA: two random matrices that all layers share and none trains; what is trained is a vector on either side of them
(Kopiczko et al. 2023, arXiv:2310.11454).

A layer y = W x becomes y = W x + b * (B (d * (A x))) with A of rank x in and B of out x rank drawn once and d, b
trained; b begins at zero. Good for very many variants of one base: an adapter is a few vectors a layer. It needs larger
ranks and learning rates than LoRA.

Example: ``method: {name: vera, rank: 256}`` with ``learning_rate: 2.0e-2``. A layer of 320 x 320 gets 256 + 320 = 576
trained weights; A and B of rank 256 for the widest layer are held once, and saved with the adapter.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes
from tasks.training.methods.method import Rates


class Vera(Adapter):
    """Train vectors around random matrices that all layers share."""

    peft_type: ClassVar[str] = "VERA"
    title: ClassVar[str] = "VeRA"
    rates: ClassVar[Rates] = (1e-3, 1e-1)

    name: Literal["vera"] = "vera"
    rank: int = Field(default=256, ge=1, description="inner dimension of the shared random matrices")
    seed: int = Field(default=0, ge=0, description="of the random matrices")

    def largest_rank(self, out: int, inner: int) -> int:
        return self.rank  # the matrices are not trained, so more than the layer's own rank is of use

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(out,), (self.rank,)]

    def held_bytes(self, shape: ModelShape) -> int:
        """A and B, as wide as the widest layer."""
        layers = self.layers(shape)
        widest = max((inner for _, _, inner in layers), default=0), max((out for _, out, _ in layers), default=0)
        return 4 * self.rank * sum(widest)

    def kept_per_token(self, shape: ModelShape) -> int:
        """The results of A and of B."""
        return sum(self.rank + out for _, out, _ in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "projection_prng_key": self.seed}

    def details(self) -> str:
        return f"rank {self.rank}"
