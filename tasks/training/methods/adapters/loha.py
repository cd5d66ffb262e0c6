"""LoHa: the update is the elementwise product of two low-rank matrices (Hyeon-Woo et al. 2022, FedPara,
arXiv:2108.06098; LyCORIS, arXiv:2309.14859).

A layer y = W x becomes y = (W + (alpha / rank) (B1 A1) * (B2 A2)) x, an update of rank up to rank squared for twice
LoRA's weights. Good where LoRA's rank is too low for the task and its number of weights should stay small; slower,
since the update is made as a whole in each pass.

Example: ``method: {name: loha, rank: 8}``. A layer of 320 x 320 gets 2 x 8 x 640 = 10,240 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class LoHa(Adapter):
    """Train an elementwise product of two low-rank updates."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "LOHA"
    reads_base: ClassVar[bool] = True
    title: ClassVar[str] = "LoHa"
    takes_transposed: ClassVar[bool] = False

    name: Literal["loha"] = "loha"
    rank: int = Field(default=8, ge=1, description="rank of each of the two factors")
    alpha: float = Field(default=16, gt=0, description="scale; updates are multiplied by alpha / rank")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return 2 * [(out, self.rank), (self.rank, inner)]

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The update as a whole."""
        return self.adapted_weights(shape)

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "alpha": self.alpha}

    def details(self) -> str:
        return f"rank {self.rank}, alpha {self.alpha:g}"
