"""NF4: the frozen base in 4 bits a weight, the method's own weights in fp32 (QLoRA; Dettmers et al. 2023,
arXiv:2305.14314).

Each 64 weights are divided by the largest magnitude among them and rounded to the 16 quantiles of a normal
distribution. ``double_quantization`` holds the magnitudes in 8 bits themselves: 4.127 bits a weight instead of 4.5. A
layer's weights are decoded for each product, into the precision of the run. Embeddings, the output layer, and layers
whose inputs are no multiple of 64 wide are not quantised but held in that precision, norms and biases in fp32.

Good for a base that does not fit otherwise: of 8 billion weights, under LoRA, it makes 5.7 GB instead of 16 GB. It is
slower than bf16, and the rounded base answers a little worse than the base; what is trained learns around that. It is
merged into the base in full precision: into rounded weights, logits would differ by 13 to 15%.

Example: ``quantization: {name: nf4}`` with ``method: {name: lora, rank: 16}``. A layer of 4,096 x 4,096 is 8.7 MB
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
from tasks.training.quantization.loading import (
    DTYPES,
    base_bytes,
    decoded_bytes,
    layers_to_skip,
    load_in_bits,
    problems_of_bits,
)
from tasks.training.quantization.quantization import Abilities

BLOCK = 64  # weights with one magnitude
OUTER_BLOCK = 256  # magnitudes with one of their own
CODE_BYTES = 16 * 4  # the 16 values
OUTER_CODE_BYTES = 256 * 4 + 4  # the values of 8 bits, and the mean that is taken off the magnitudes


class Nf4(Section):
    """The frozen base in 4 bits."""

    can: ClassVar[Abilities] = Abilities(trained_base=False, sharded=True)

    name: Literal["nf4"] = "nf4"
    double_quantization: bool = Field(default=True, description="hold the magnitudes of the blocks in 8 bits")
    weights: WeightType = Field(
        default="auto", description="type of the embeddings and the output layer; auto: as precision"
    )

    def problems(self, shape: ModelShape, frozen_base: bool, precision: Precision, device: Device) -> list[str]:
        problems = problems_of_bits(self.name, self.weights, shape, precision)
        if shape.linear and all(inner % BLOCK for sizes in shape.linear.values() for _, inner in sizes):
            problems.append(
                f"quantization: nf4, but no linear layer has inputs whose width is a multiple of {BLOCK}; set "
                "{name: int8} or {name: none}"
            )
        return problems

    def resolve(self, frozen_base: bool, precision: Precision) -> Self:
        return self.model_copy(update={"weights": precision}) if self.weights == "auto" else self

    def base_bytes(self, shape: ModelShape) -> int:
        return base_bytes(shape, self.weights, self._layer_bytes)

    def cast_bytes(self, shape: ModelShape, precision: Precision) -> int:
        return decoded_bytes(shape, self.weights, precision)

    def describe(self) -> str:
        double = " with double quantisation" if self.double_quantization else ""
        return f"4 bits (NF4{double}), embeddings in {self.weights}"

    def load(self, base: Path, precision: Precision, device: Device) -> Any:
        from transformers import BitsAndBytesConfig

        settings: Any = BitsAndBytesConfig  # untyped
        config = settings(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double_quantization,
            bnb_4bit_compute_dtype=DTYPES[precision],
            # bitsandbytes 0.50.2 decodes rows of 96 weights, say, with the magnitudes of other blocks on a CPU.
            llm_int8_skip_modules=layers_to_skip(base, BLOCK),
        )
        return load_in_bits(base, self.weights, precision, device, config)

    def _layer_bytes(self, out: int, inner: int) -> int:
        weights = out * inner
        if inner % BLOCK:
            return (4 if self.weights == "fp32" else 2) * weights
        blocks = -(-weights // BLOCK)
        packed = -(-weights // 2) + CODE_BYTES
        if not self.double_quantization:
            return packed + 4 * blocks
        return packed + blocks + 4 * -(-blocks // OUTER_BLOCK) + OUTER_CODE_BYTES
