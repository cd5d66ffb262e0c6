"""Full fine-tuning: every weight is trained.

Good for small models and for large changes of behaviour. It needs memory for the gradients and the optimizer states
of all weights: with AdamW 16 bytes a weight, beside the activations. What comes out is a whole transformers folder in
fp32, ``weights/``.

Example: ``method: {name: full}`` with ``learning_rate: 1.0e-3`` on the embedded base and 1.0e-5 on a model of billions
of weights, about a tenth of LoRA's. A model of 1 million weights is 4 MB of weights, 4 MB of gradients and 8 MB of
AdamW's moments, and 4 MB in ``weights/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Can, Rates

FOLDER = "weights"
# What methods can that train weights of the base itself.
TRAINS_BASE = Can(
    frozen_base=False,
    quantized_base=False,
    checkpointing=True,
    reads_gradients=False,
    packing=True,
    merging=True,
    low_rank=False,
)
SMALL_MODEL = 100_000_000  # weights; models below it bear, and need, larger steps


class Full(Section):
    """Train every weight."""

    can: ClassVar[Can] = TRAINS_BASE

    name: Literal["full"] = "full"

    def problems(self, shape: ModelShape) -> list[str]:
        return [] if shape.parameters else ["method: the model has no weights to train; take another base"]

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return rates_of_base(shape)

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trainable(self, shape: ModelShape) -> int:
        return shape.parameters

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return [size for sizes in shape.linear.values() for size in sizes]

    def own_bytes(self, shape: ModelShape) -> int:
        return 0

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        return "full fine-tuning"

    def adapt(self, model: Any) -> Any:
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_weights(model, folder)

    def load(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def merge(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)


def save_weights(model: Any, folder: Path) -> list[Path]:
    """Write a plain model whole; the files."""
    target = folder / FOLDER
    model.save_pretrained(target, max_shard_size="100TB")
    return sorted(path for path in target.rglob("*") if path.is_file())


def load_weights(tuned: Path) -> Any:
    """The model that `save_weights` wrote."""
    return load_model(tuned / FOLDER)


def rates_of_base(shape: ModelShape) -> Rates:
    """Learning rates that are usual for a base's own weights."""
    return (1e-5, 3e-3) if shape.parameters < SMALL_MODEL else (1e-6, 2e-4)
