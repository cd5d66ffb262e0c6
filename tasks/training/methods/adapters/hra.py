"""HRA: the inputs of a layer are reflected by a few trained Householder vectors (Yuan et al. 2024, arXiv:2405.17484).

A layer y = W x becomes y = W H x with H = (I - 2 u_1 u_1^T) ... (I - 2 u_r u_r^T), orthogonal as OFT's matrix and as
few numbers as a low rank. Good for keeping what the base knows with LoRA's size. The rank is even, so that the
reflections begin in equal pairs and cancel.

Example: ``method: {name: hra, rank: 8}``. A layer of 320 inputs gets 8 x 320 = 2,560 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class Hra(Adapter):
    """Train reflections of the layers' inputs."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "HRA"
    title: ClassVar[str] = "HRA"
    takes_transposed: ClassVar[bool] = False

    name: Literal["hra"] = "hra"
    rank: int = Field(default=8, ge=2, multiple_of=2, description="reflections, an even number")
    orthogonal: bool = Field(default=False, description="make the vectors orthogonal to each other (Gram-Schmidt)")

    def largest_rank(self, out: int, inner: int) -> int:
        return inner

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(inner, self.rank)]

    def kept_per_pass(self, shape: ModelShape) -> int:
        """A product of reflections after each of them, of in x in numbers."""
        return (self.rank + 2) * sum(inner * inner for _, _, inner in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "apply_GS": self.orthogonal}

    def details(self) -> str:
        return f"{self.rank} reflections"
