"""LLM.int8(): the frozen base in 8 bits a weight, the method's own weights in fp32 (Dettmers et al. 2022,
arXiv:2208.07339).

Each row of a layer's matrix is divided by its largest magnitude and rounded to 255 values. On a GPU the inputs are
rounded too, but for columns with a value above ``outlier_threshold``, which are multiplied in 16 bits; on a CPU the
weights are decoded for each product and the inputs stay as they are, in training and in validation. Embeddings and the
output layer are not quantised.

Good for half the memory of bf16 at an answer that differs less than with 4 bits. Where memory is short, `nf4` saves
more and is faster.

Example: ``quantization: {name: int8}`` with ``method: {name: lora, rank: 16}``. A layer of 4,096 x 4,096 is 16.8 MB
instead of 33.6 MB in bf16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.machine import Device
from tasks.contracts.params import Section
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision, WeightType
from tasks.training.quantization.loading import base_bytes, decoded_bytes, load_in_bits, problems_of_bits
from tasks.training.quantization.quantization import Abilities


class Int8(Section):
    """The frozen base in 8 bits."""

    can: ClassVar[Abilities] = Abilities(trained_base=False, sharded=False)

    name: Literal["int8"] = "int8"
    outlier_threshold: float = Field(
        default=6.0, ge=0, description="on a GPU, columns of the input with a larger value are not rounded; 0: all are"
    )
    weights: WeightType = Field(
        default="auto", description="type of the embeddings and the output layer; auto: as precision"
    )

    def problems(self, shape: ModelShape, frozen_base: bool, precision: Precision, device: Device) -> list[str]:
        return problems_of_bits(self.name, self.weights, shape, precision)

    def resolve(self, frozen_base: bool, precision: Precision) -> Self:
        return self.model_copy(update={"weights": precision}) if self.weights == "auto" else self

    def base_bytes(self, shape: ModelShape) -> int:
        return base_bytes(shape, self.weights, lambda out, inner: out * inner + 4 * out)

    def cast_bytes(self, shape: ModelShape, precision: Precision) -> int:
        return decoded_bytes(shape, self.weights, precision)

    def describe(self) -> str:
        return f"8 bits (LLM.int8), embeddings in {self.weights}"

    def load(self, base: Path, precision: Precision, device: Device) -> Any:
        from transformers import BitsAndBytesConfig

        settings: Any = BitsAndBytesConfig  # untyped
        config = settings(load_in_8bit=True, llm_int8_threshold=self.outlier_threshold)
        return load_in_bits(base, self.weights, precision, device, config)
