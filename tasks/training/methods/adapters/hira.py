"""HiRA: the weights are multiplied, element by element, by one plus a low-rank matrix (Huang et al. 2025, ICLR).

A layer y = W x becomes y = (W + W * (B A)) x: large weights change more, and the update has a high rank for LoRA's
number of weights. Good where LoRA stays behind full fine-tuning; slower, since the update is made as a whole in each
pass.

Example: ``method: {name: hira, rank: 32}`` with ``learning_rate: 5.0e-3``. A layer of 320 x 320 gets 32 x 640 = 20,480
trained weights.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes
from tasks.training.methods.method import Rates


class Hira(Adapter):
    """Train a low-rank matrix that multiplies the weights."""

    peft_type: ClassVar[str] = "HIRA"
    title: ClassVar[str] = "HiRA"
    rates: ClassVar[Rates] = (1e-3, 5e-2)

    name: Literal["hira"] = "hira"
    rank: int = Field(default=32, ge=1, description="inner dimension of the matrix")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the inputs dropped in training")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.rank, inner), (out, self.rank)]

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The update as a whole."""
        return self.adapted_weights(shape)

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "hira_dropout": self.dropout}

    def details(self) -> str:
        return f"rank {self.rank}"
