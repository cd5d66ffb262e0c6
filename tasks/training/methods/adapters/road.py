"""RoAd: the results of a layer are turned and scaled in pairs (Liao and Monz 2024, arXiv:2409.00119).

A layer y = W x becomes y = R W x, R of 2 x 2 blocks with a trained angle and length each. Good for many requests with
adapters of their own in one batch, since it costs a few products by element; very few weights.

Example: ``method: {name: road}`` with ``learning_rate: 5.0e-3``. A layer of 320 results gets 160 angles and 160
lengths. ``variant: 2`` has an angle and a length for each result, ``variant: 4`` four numbers for each.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes, divisor_problem
from tasks.training.methods.method import Rates

LARGEST_GROUP = 64


class Road(Adapter):
    """Train rotations of pairs of results."""

    peft_type: ClassVar[str] = "ROAD"
    title: ClassVar[str] = "RoAd"
    rates: ClassVar[Rates] = (1e-3, 5e-2)
    takes_transposed: ClassVar[bool] = False

    name: Literal["road"] = "road"
    variant: Literal[1, 2, 4] = Field(default=1, description="numbers a result, as the paper has them")
    group: int | Literal["auto"] = Field(
        default="auto", description="results of which pairs are made; auto: up to 64, such that it divides all layers"
    )

    def resolve(self, shape: ModelShape) -> Self:
        resolved = super().resolve(shape)
        return resolved.model_copy(update={"group": self._group(shape)})

    def layer_problem(self, out: int, inner: int) -> str:
        if self.group == "auto":
            odd = f"method.targets: road turns pairs of results, and {{layer}} has {out}; leave it out"
            return odd if out % 2 else ""
        return divisor_problem("group", self.group, out, "results")

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return 2 * [(out * self.variant // 2,)]

    def kept_per_token(self, shape: ModelShape) -> int:
        """The results, and half of them turned; measured."""
        return round(1.5 * sum(out for _, out, _ in self.layers(shape)))

    def settings(self) -> dict[str, Any]:
        return {"variant": f"road_{self.variant}", "group_size": self.group}

    def details(self) -> str:
        return f"variant {self.variant}"

    def _group(self, shape: ModelShape) -> int:
        if self.group != "auto":
            return self.group
        common = math.gcd(*(out for _, out, _ in self.layers(shape)))
        return max((size for size in range(2, LARGEST_GROUP + 1, 2) if common % size == 0), default=2)
