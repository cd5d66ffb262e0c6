"""LoKr: the update is a Kronecker product of a small matrix and a low-rank one (Edalati et al. 2022, KronA,
arXiv:2212.10650; LyCORIS, arXiv:2309.14859).

With out = a b and in = c d, both factors near the square roots, the update is (alpha / rank) C (x) (B A), C of a x c
and B A of b x d. Good for the smallest adapters that still reach every weight; the update has full rank.

Example: ``method: {name: lokr, rank: 8}``. A layer of 320 x 320, 16 x 20 on either side, gets 16 x 16 + 20 x 8 + 8 x 20
= 576 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class LoKr(Adapter):
    """Train Kronecker products as updates."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "LOKR"
    title: ClassVar[str] = "LoKr"
    takes_transposed: ClassVar[bool] = False

    name: Literal["lokr"] = "lokr"
    rank: int = Field(default=8, ge=1, description="rank of the larger factor; one that it cannot have makes it whole")
    alpha: float = Field(default=16, gt=0, description="scale; updates are multiplied by alpha / rank")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        (a, b), (c, d) = factor(out), factor(inner)
        if self.rank < max(b, d) / 2:
            return [(a, c), (b, self.rank), (self.rank, d)]
        return [(a, c), (b, d)]

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The update as a whole."""
        return self.adapted_weights(shape)

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "alpha": self.alpha}

    def details(self) -> str:
        return f"rank {self.rank}, alpha {self.alpha:g}"


def factor(side: int) -> tuple[int, int]:
    """A number as the product of two that are as near to each other as can be, the smaller first."""
    smaller = next(one for one in range(int(side**0.5), 0, -1) if side % one == 0)
    return smaller, side // smaller
