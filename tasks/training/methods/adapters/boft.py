"""BOFT: as OFT, with an orthogonal matrix of small blocks and a trained scale of each result (Liu et al. 2023,
arXiv:2311.06243).

A layer y = W x becomes y = s * (W R) x with R block-diagonal and orthogonal and s trained. The paper multiplies several
such matrices, with permutations between; PEFT has that on GPUs with its own kernel only, so one factor is trained here.
Good for the same as OFT, with fewer weights; slow, since the weights are turned as a whole in each pass.

Example: ``method: {name: boft, block_size: 4}``. A layer of 320 x 320 gets 80 blocks of 4 x 4 and 320 scales: 1,600
trained weights. A permutation of 320 x 320 numbers is held beside each layer.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes, divisor_problem


class Boft(Adapter):
    """Train block-diagonal rotations of the weights and a scale of each result."""

    peft_type: ClassVar[str] = "BOFT"
    title: ClassVar[str] = "BOFT"
    takes_transposed: ClassVar[bool] = False

    name: Literal["boft"] = "boft"
    block_size: int = Field(default=4, ge=2, description="inputs that are turned together; divides those of each layer")

    def layer_problem(self, out: int, inner: int) -> str:
        return divisor_problem("block_size", self.block_size, inner, "inputs")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(1, inner // self.block_size, self.block_size, self.block_size), (out, 1)]

    def held_bytes(self, shape: ModelShape) -> int:
        return sum(4 * inner * inner for _, _, inner in self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The turned weights, before and after their scales."""
        return 2 * self.adapted_weights(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        """The results before their scales."""
        return sum(out for _, out, _ in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"boft_block_size": self.block_size}

    def details(self) -> str:
        return f"blocks of {self.block_size}"
