"""P-tuning: prompt tuning whose vectors are made by a small trained network (Liu et al. 2021, arXiv:2103.10385).

The network ties the vectors to each other, so that they learn more steadily. It is left behind after training: what is
saved are the vectors that it makes.

Example: ``method: {name: p_tuning, virtual_tokens: 20}`` with ``learning_rate: 1.0e-3`` and ``packing: none``. On a
base of 320 with an encoder of 320 the vectors have 6,400 weights and the network 308,160.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Rates
from tasks.training.methods.prompts.prompt import PromptMethod


class PTuning(PromptMethod):
    """Train a network that makes vectors in the place of a prompt."""

    title: ClassVar[str] = "P-tuning"
    rates: ClassVar[Rates] = (1e-4, 3e-2)

    name: Literal["p_tuning"] = "p_tuning"
    encoder_width: int | Literal["auto"] = Field(
        default="auto", description="width of the network's two hidden layers; auto: that of the model"
    )

    def resolve(self, shape: ModelShape) -> Self:
        return self.model_copy(update={"encoder_width": self._width(shape)})

    def trainable(self, shape: ModelShape) -> int:
        """The vectors, and three linear layers with biases."""
        hidden, width = shape.hidden, self._width(shape)
        network = (hidden * width + width) + (width * width + width) + (width * hidden + hidden)
        return self.virtual_tokens * hidden + network

    def config(self) -> Any:
        from peft import PromptEncoderConfig

        assert self.encoder_width != "auto", "made for a resolved method"
        return PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.virtual_tokens,
            encoder_hidden_size=self.encoder_width,
        )

    def _width(self, shape: ModelShape) -> int:
        return shape.hidden if self.encoder_width == "auto" else self.encoder_width
