"""PEANuT: the update of each layer is made of its own weights, by a network (Zhong et al. 2024, arXiv:2410.01870).

A layer y = W x becomes y = (W + s f(W)) x, where f runs over the columns of W: a linear layer to ``rank`` numbers, a
non-linearity, ``depth`` hidden layers on either side, and a linear layer back, zero at the start. Good where the update
should follow the base's weights; as many trained weights as LoRA, for an update that is no product of thin matrices. It
makes all updates anew in each pass.

Example: ``method: {name: peanut, rank: 32}``. A layer of 864 x 320 gets 2 x 32 x 864 = 55,296 trained weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class Peanut(Adapter):
    """Train networks that make each layer's update of its weights."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "PEANUT"
    title: ClassVar[str] = "PEANuT"
    takes_transposed: ClassVar[bool] = False

    name: Literal["peanut"] = "peanut"
    rank: int = Field(default=32, ge=1, description="width of the networks")
    depth: int = Field(default=0, ge=0, description="hidden layers on either side of the middle")
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field(default="relu", description="of the networks")
    scale: float = Field(default=1.0, gt=0, description="what the update is multiplied by")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.rank, out), *2 * self.depth * [(self.rank, self.rank)], (out, self.rank)]

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The update, and what its network keeps for each column of the weights."""
        inside = (2 + 4 * self.depth) * self.rank
        return self.adapted_weights(shape) + inside * sum(inner for _, _, inner in self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank, "depth": self.depth, "act_fn": self.activation, "scaling": self.scale}

    def details(self) -> str:
        return f"rank {self.rank}, {self.depth} hidden layers"
