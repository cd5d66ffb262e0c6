"""RandLoRA: the update is a sum of random low-rank matrices of full rank together, each scaled by trained vectors
(Albert et al. 2025, arXiv:2502.00987).

A layer y = W x becomes y = W x + (alpha / rank) sum_i B_i L_i A G_i x with A and B_i drawn once for all layers and the
diagonals L_i and G_i trained. Good where LoRA's low rank is what limits it: the update has full rank for about as many
weights as LoRA has. A higher rank means fewer trained weights.

Example: ``method: {name: randlora, rank: 32}`` with ``learning_rate: 1.0e-3``. A layer of 320 x 320 takes 10 pairs: 10
x (32 + 320) = 3,520 trained weights.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes


class RandLora(Adapter):
    """Train the scales of random matrices that have full rank together."""

    peft_type: ClassVar[str] = "RANDLORA"
    title: ClassVar[str] = "RandLoRA"

    name: Literal["randlora"] = "randlora"
    rank: int = Field(default=32, ge=1, description="rank of each random matrix; more of it is fewer trained weights")
    alpha: float | Literal["auto"] = Field(
        default="auto", description="scale; updates are multiplied by alpha / rank; auto: 20 times the rank"
    )
    seed: int = Field(default=0, ge=0, description="of the random matrices")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        smaller = min(out, inner)
        pairs = math.ceil(smaller / self.rank)
        return [(self.rank, pairs), (pairs, smaller)]

    def held_bytes(self, shape: ModelShape) -> int:
        """A, and a B for each pair of the widest layer."""
        layers = self.layers(shape)
        sides = max((out for _, out, _ in layers), default=0), max((inner for _, _, inner in layers), default=0)
        return 4 * self.rank * (min(sides) + max(sides) * math.ceil(min(sides) / self.rank))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The scaled random matrices."""
        return sum(self.rank * math.ceil(min(size) / self.rank) * min(size) for _, *size in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "randlora_alpha": self._alpha, "projection_prng_key": self.seed}

    def details(self) -> str:
        return f"rank {self.rank}, alpha {self._alpha:g}"

    @property
    def _alpha(self) -> float:
        return 20.0 * self.rank if self.alpha == "auto" else self.alpha
