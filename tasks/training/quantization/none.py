"""No quantisation: floating-point weights.

Weights that are trained are held in fp32, since small updates are lost in 16 bits. A frozen base is held in the
precision of the computation: the products are those of fp32 weights under autocast, without a copy of the weights in
each pass. Norms and biases stay in fp32, and so does the sum that runs through the blocks: what the embedding gives is
widened. A base that is stored in bf16, as most are, loses nothing by it.

Example: ``quantization: {name: none}``. A base of 1 billion weights under LoRA is 2 GB with ``precision: bf16``, and
4 GB with ``precision: fp32`` or with ``{name: none, weights: fp32}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.machine import Device
from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision, WeightType
from tasks.training.quantization.loading import load_frozen, mismatches
from tasks.training.quantization.quantization import Abilities


class Unquantized(Section):
    """Floating-point weights."""

    can: ClassVar[Abilities] = Abilities(trained_base=True, sharded=True)

    name: Literal["none"] = "none"
    weights: WeightType = Field(
        default="auto", description="type of the base's weights; auto: of a frozen base as precision, else fp32"
    )

    def problems(self, shape: ModelShape, frozen_base: bool, precision: Precision, device: Device) -> list[str]:
        if self.weights in ("auto", "fp32"):
            return []
        if not frozen_base:
            return [
                f"quantization.weights: {self.weights}, but the method trains the base's weights, and small updates "
                "are lost in 16 bits; set weights: auto"
            ]
        return mismatches(self.weights, precision)

    def resolve(self, frozen_base: bool, precision: Precision) -> Self:
        if self.weights != "auto":
            return self
        return self.model_copy(update={"weights": precision if frozen_base else "fp32"})

    def base_bytes(self, shape: ModelShape) -> int:
        matrices = shape.linear_weights + shape.embedding_weights
        return (4 if self.weights == "fp32" else 2) * matrices + 4 * (shape.parameters - matrices)

    def cast_bytes(self, shape: ModelShape, precision: Precision) -> int:
        return 0 if precision == self.weights else 2 * shape.parameters

    def describe(self) -> str:
        return f"not quantised, weights in {self.weights}"

    def load(self, base: Path, precision: Precision, device: Device) -> Any:
        return load_model(base) if self.weights == "fp32" else load_frozen(base, self.weights)
