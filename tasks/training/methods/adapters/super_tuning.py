"""Super-Tuning: the largest weights of each layer are trained where they are, as a sparse update (arXiv:2607.09287).

A layer y = W x becomes y = (W + S) x, where S is not zero in the places of the ``1 - sparsity`` largest weights of W;
``smallest: true`` takes the smallest instead, which is better for some models and tasks. Good for the same as SHiRA,
which draws the places at random.

Example: ``method: {name: super_tuning, sparsity: 0.99}``. A layer of 320 x 320 gets 1,024 of its 102,400 weights
trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can


class SuperTuning(Adapter):
    """Train the largest weights of each layer."""

    can: ClassVar[Can] = replace(USUAL, quantized_base=False)
    peft_type: ClassVar[str] = "SUPERTUNING"
    reads_base: ClassVar[bool] = True
    title: ClassVar[str] = "Super-Tuning"
    takes_transposed: ClassVar[bool] = False

    name: Literal["super_tuning"] = "super_tuning"
    sparsity: float = Field(default=0.99, ge=0, lt=1, description="share of a layer's weights that stay as they are")
    smallest: bool = Field(default=False, description="train the smallest weights instead of the largest")

    def layer_problem(self, out: int, inner: int) -> str:
        if self._count(out, inner):
            return ""
        return (
            f"method.sparsity: {self.sparsity} leaves no weight of {{layer}} ({out * inner:,}) to train; set at most "
            f"{1 - 2 / (out * inner):.4g}"
        )

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self._count(out, inner),)]

    def held_bytes(self, shape: ModelShape) -> int:
        """The place of every trained weight, 4 bytes each."""
        return 4 * self.trainable(shape)

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The changed weights as a whole, and the places in 8 bytes."""
        return self.adapted_weights(shape) + 2 * self.trainable(shape)

    def settings(self) -> dict[str, Any]:
        return {"sparsity": self.sparsity, "select_top": not self.smallest}

    def details(self) -> str:
        return f"{1 - self.sparsity:.3g} of the weights, the {'smallest' if self.smallest else 'largest'}"

    def _count(self, out: int, inner: int) -> int:
        """As PEFT rounds it."""
        return int(out * inner * (1 - self.sparsity))
