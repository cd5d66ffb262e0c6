"""GraLoRA: LoRA for each of k x k blocks of the weights (Jung et al. 2025, arXiv:2505.20355).

The update of a layer is cut into k x k blocks with a low-rank update of rank / k each, so that its rank is k times
LoRA's for as many weights. Good at ranks of 64 and more, where LoRA gains little from a higher rank.

Example: ``method: {name: gralora, rank: 32}``, whose alpha is 64. A layer of 320 x 320 gets 32 x 640 = 20,480 trained
weights.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes, divisor_problem


class GraLora(Adapter):
    """Train low-rank updates of blocks of the weights."""

    peft_type: ClassVar[str] = "GRALORA"
    title: ClassVar[str] = "GraLoRA"

    name: Literal["gralora"] = "gralora"
    rank: int = Field(default=32, ge=1, description="inner dimension of the updates of all blocks of a row together")
    alpha: float | Literal["auto"] = Field(
        default="auto", description="scale; updates are multiplied by alpha / rank; auto: twice the rank"
    )
    parts: int = Field(default=2, ge=1, description="blocks on either side; divides the sides of all layers")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the inputs dropped in training")

    def layer_problem(self, out: int, inner: int) -> str:
        for side, which in ((out, "results"), (inner, "inputs"), (self.rank, "rank")):
            if problem := divisor_problem("parts", self.parts, side, which):
                return problem
        return ""

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.parts, inner // self.parts, self.rank), (self.parts, self.rank, out // self.parts)]

    def kept_per_token(self, shape: ModelShape) -> int:
        """The results of the blocks' matrices A."""
        return self.parts * self.rank * len(self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "alpha": self._alpha, "gralora_k": self.parts, "gralora_dropout": self.dropout}

    def details(self) -> str:
        return f"rank {self.rank}, alpha {self._alpha:g}, {self.parts} x {self.parts} blocks"

    @property
    def _alpha(self) -> float:
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha
