"""What the methods have in common that put trained vectors before every row and leave the base as it is.

What comes out is PEFT's adapter, ``adapter/``, with the vectors themselves. A model with it is the base inside PEFT's
wrapper, which puts the vectors before each row and each prompt: they are no part of the base's weights and cannot be
merged, and packed rows cannot be kept apart, since only the first conversation of a row would see them. The vectors
take room of the context: ``max_tokens`` and they fit into it together.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import FOLDER, quiet, save_adapter
from tasks.training.methods.method import Can, Rates

USUAL = Can(
    frozen_base=True,
    quantized_base=True,
    checkpointing=True,
    reads_gradients=False,
    packing=False,
    merging=False,
    low_rank=False,
)


class PromptMethod(Section):
    """Vectors before the rows of a frozen base; what every method of this kind has.

    Attributes:
        can: As of every method.
        title: The method's name in a sentence.
        rates: As `Method.usual_rates`, whatever the model.
    """

    can: ClassVar[Can] = USUAL
    title: ClassVar[str]
    rates: ClassVar[Rates] = (1e-3, 3e-1)

    name: str
    virtual_tokens: int = Field(default=20, ge=1, description="vectors before every row, in tokens of the context")

    @abstractmethod
    def config(self) -> Any:
        """PEFT's configuration."""

    @abstractmethod
    def trainable(self, shape: ModelShape) -> int: ...

    def problems(self, shape: ModelShape) -> list[str]:
        problems = []
        if not shape.layers or not shape.hidden:
            problems.append("method.name: the model has no blocks to read the vectors; take another base")
        if shape.context and self.virtual_tokens >= shape.context:
            problems.append(
                f"method.virtual_tokens: {self.virtual_tokens} fill the model's context ({shape.context}); set fewer"
            )
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return self.rates

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return []

    def own_bytes(self, shape: ModelShape) -> int:
        return 4 * self.trainable(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        return f"{self.title} ({self.virtual_tokens} virtual tokens)"

    def adapt(self, model: Any) -> Any:
        from peft import get_peft_model

        with quiet():
            return align_results(get_peft_model(model, self.config()))

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_adapter(model, folder / FOLDER)

    def load(self, base: Path, tuned: Path) -> Any:
        """PEFT's model, which puts the vectors before whatever it reads."""
        from peft import PeftModel

        with quiet():
            return align_results(PeftModel.from_pretrained(load_model(base), tuned / FOLDER))

    def merge(self, base: Path, tuned: Path) -> Any:
        raise PipelineError(f"{tuned}: {self.describe()} cannot be merged; it has no place in the base's weights")


def align_results(model: Any) -> Any:
    """Have a model answer for the tokens it was given, and not for the vectors before them.

    The output layer runs on what is left. `generate` calls the base below and goes on from the last result.

    Args:
        model: PEFT's, whose hidden states begin with those of the vectors where they go through the embeddings.
    """
    widths: list[int] = []  # of the rows that are being read

    def begin(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        widths.append((named["input_ids"] if "input_ids" in named else arguments[0]).shape[1])

    def cut(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (arguments[0][:, -widths[-1] :], *arguments[1:]) if widths else None

    def end(*_: Any) -> None:
        widths.pop()

    model.register_forward_pre_hook(begin, with_kwargs=True)
    model.get_output_embeddings().register_forward_pre_hook(cut)
    model.register_forward_hook(end, always_call=True)
    return model
