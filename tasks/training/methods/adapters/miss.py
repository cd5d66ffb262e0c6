"""MiSS: one small matrix per layer, whose rows are shared by parts of the inputs (Kang and Yin 2024, arXiv:2409.15371).

A layer y = W x becomes y = W x + D^T s(x) with D of rank x out, beginning at zero, and s(x) the sums of every rank-th
input. Good as a cheaper LoRA: half its weights at the same rank and one product less in each pass.

Example: ``method: {name: miss, rank: 32}``. A layer of 320 x 320 gets 32 x 320 = 10,240 trained weights.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes


class Miss(Adapter):
    """Train one small matrix per layer, shared by parts of its inputs."""

    peft_type: ClassVar[str] = "MISS"
    title: ClassVar[str] = "MiSS"
    takes_transposed: ClassVar[bool] = False

    name: Literal["miss"] = "miss"
    rank: int = Field(default=32, ge=1, description="rows of the trained matrix")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the inputs dropped in training")

    def largest_rank(self, out: int, inner: int) -> int:
        return inner

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.rank, out)]

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "miss_dropout": self.dropout}

    def details(self) -> str:
        return f"rank {self.rank}"
