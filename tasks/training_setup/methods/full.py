"""Full fine-tuning: every weight is trained.

Good for small models and for large changes of behaviour; needs memory for gradients and optimizer
states of all weights. Example: ``method: {name: full}`` with a learning rate about ten times lower than for LoRA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.contracts.plan import FullMethod
    from tasks.language_models.shape import ModelShape


class Full(Section):
    """Train every weight."""

    frozen_base: ClassVar[bool] = False

    name: Literal["full"] = "full"

    def problems(self, shape: ModelShape) -> list[str]:
        return []

    def resolve(self, shape: ModelShape) -> FullMethod:
        from tasks.contracts.plan import FullMethod

        return FullMethod()

    def trainable(self, shape: ModelShape) -> int:
        return shape.parameters

    def ranks(self, shape: ModelShape) -> int:
        return 0
