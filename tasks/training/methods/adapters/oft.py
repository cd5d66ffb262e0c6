"""OFT: the inputs of a layer are turned by a trained orthogonal matrix of blocks (Qiu et al. 2023, arXiv:2306.07280; in
the form of OFTv2, Qiu et al. 2025, arXiv:2506.19847).

A layer y = W x becomes y = W (R x) with R block-diagonal and orthogonal, so that angles between the neurons of a layer
stay as the base has them. Good where what the base knows is to be kept; the turned inputs leave quantised weights
alone.

Example: ``method: {name: oft, block_size: 32}``. A layer of 320 inputs gets 10 blocks of 32 x 31 / 2 = 496 angles:
4,960 trained weights. A block size that does not divide the inputs becomes the next that does.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes


class Oft(Adapter):
    """Train rotations of the layers' inputs."""

    peft_type: ClassVar[str] = "OFT"
    title: ClassVar[str] = "OFT"
    takes_transposed: ClassVar[bool] = False

    name: Literal["oft"] = "oft"
    block_size: int = Field(default=32, ge=2, description="inputs that are turned together")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        block = fit_block(self.block_size, inner)
        return [(inner // block, block * (block - 1) // 2)]

    def held_bytes(self, shape: ModelShape) -> int:
        """Row and column of every angle of a block, 8 bytes each."""
        blocks = [fit_block(self.block_size, inner) for _, _, inner in self.layers(shape)]
        return 2 * 8 * sum(block * (block - 1) // 2 for block in blocks)

    def kept_per_pass(self, shape: ModelShape) -> int:
        """Powers of the blocks of which a rotation is made."""
        return 4 * self.block_size * sum(inner for _, _, inner in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": 0, "oft_block_size": self.block_size}

    def details(self) -> str:
        return f"blocks of {self.block_size}"


def fit_block(size: int, inner: int) -> int:
    """The divisor of a layer's inputs that is nearest to a block size, the smaller of two."""
    if size >= inner:
        return inner
    above = next(one for one in range(size, inner + 1) if inner % one == 0)
    below = next(one for one in range(size, 0, -1) if inner % one == 0)
    return below if size - below <= above - size else above
