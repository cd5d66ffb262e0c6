"""DeLoRA: LoRA whose update has a trained length, apart from its direction (Bini et al. 2025, arXiv:2503.18225).

A layer y = W x becomes y = W x + (lambda |W| / rank) B D A x with D making each of the rank pairs one long, so that the
update cannot grow beyond lambda. Good where LoRA at high learning rates leaves what the base knows.

Example: ``method: {name: delora, rank: 16}`` with ``learning_rate: 1.0e-3``. A layer of 320 x 320 gets 16 x 640 + 1 =
10,241 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class DeLora(Adapter):
    """Train low-rank updates of a bounded, trained length."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "DELORA"
    reads_base: ClassVar[bool] = True
    title: ClassVar[str] = "DeLoRA"
    takes_transposed: ClassVar[bool] = False

    name: Literal["delora"] = "delora"
    rank: int = Field(default=16, ge=1, description="inner dimension of the updates")
    length: float = Field(default=15, gt=0, description="lambda: the length that updates begin with")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.rank, inner), (out, self.rank), (1,)]

    def held_bytes(self, shape: ModelShape) -> int:
        """The norms of the weights, one an input."""
        return 4 * sum(inner for _, _, inner in self.layers(shape))

    def kept_per_token(self, shape: ModelShape) -> int:
        """The scaled inputs, and the result of A."""
        return sum(inner for _, _, inner in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "delora_lambda": self.length}

    def details(self) -> str:
        return f"rank {self.rank}, length {self.length:g}"
