"""The shape of a training method, and the facts that the rest of the pipeline asks it for.

A method is a frozen section of params. Training setup resolves it for the base model and writes it into the plan;
fine-tuning adapts the base with it and saves what was trained; evaluation and deployment open what was saved through
it. Nothing else knows how a method works. What a method does from step to step, if anything, is in `hooks` beside this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from tasks.language_models.folder.shape import ModelShape

Rates = tuple[float, float]


@dataclass(frozen=True)
class Can:
    """What a method can. Refusals and tables are made of it, and the contract test holds every method to it.

    A fact is added together with the code that asks for it; none has a default, so every method then has to answer.

    Attributes:
        frozen_base: Leave every weight of the base as it is and train only weights of its own.
        reads_gradients: Look at the whole gradient of every trained weight after each step.
        packing: Train on rows of several conversations, none of which sees another.
        quantized_base: Train beside a base whose weights are held in few bits; without `frozen_base` never.
        checkpointing: Train with activations that are computed again in the backward pass.
        merging: Become a plain model, without anything of the method left in it: of the base's own architecture, but
            for `ChangesArchitecture`.
        low_rank: Train pairs of thin matrices beside layers of the base, named ``lora_A`` and ``lora_B``.
    """

    frozen_base: bool
    quantized_base: bool
    checkpointing: bool
    reads_gradients: bool
    packing: bool
    merging: bool
    low_rank: bool


class Method(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument.

    Only `adapt`, `save`, `load` and `merge` touch a model, and only they import PyTorch and what is built on it.
    """

    can: ClassVar[Can]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def problems(self, shape: ModelShape) -> list[str]:
        """Everything that cannot work on this model: what was found, what was expected, the next step."""
        ...

    def unusual(self, shape: ModelShape) -> list[str]:
        """What works, but is probably not meant; learning rates apart."""
        ...

    def usual_rates(self, shape: ModelShape) -> Rates:
        """Lowest and highest peak learning rate that is usual for supervised learning with AdamW."""
        ...

    def resolve(self, shape: ModelShape) -> Self:
        """The same method with nothing left to choose, as the plan keeps it; resolved again it is the same."""
        ...

    def trainable(self, shape: ModelShape) -> int:
        """Weights that get gradients and optimizer states, in whichever step."""
        ...

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        """Sizes of the trained matrices inside the blocks; what else `trainable` counts is embeddings and vectors."""
        ...

    def own_bytes(self, shape: ModelShape) -> int:
        """Bytes of the method's own weights, which are fp32, beside those of the base."""
        ...

    def kept_per_token(self, shape: ModelShape) -> int:
        """Numbers that the method's own modules keep per token for the backward pass, over all layers."""
        ...

    def describe(self) -> str:
        """The resolved method in words, for a page, a card, the middle of a sentence."""
        ...

    def adapt(self, model: Any) -> Any:
        """The base model as it is trained.

        Args:
            model: The base as a quantisation loads it, in fp32 without `Can.frozen_base`; changed in place.

        Returns:
            A model whose trainable parameters, and only they, require gradients. Checkpoints keep those and nothing
            else, so whatever changes while it trains is one of them.
        """
        ...

    def save(self, model: Any, folder: Path) -> list[Path]:
        """Write what was trained; the same bytes for the same weights.

        Args:
            model: What `adapt` returned.
            folder: ``models/tuned``; an empty folder.

        Returns:
            The files, below ``folder``.
        """
        ...

    def load(self, base: Path, tuned: Path) -> Any:
        """The trained model in fp32, with the same logits as when it was saved.

        Args:
            base: Folder with the base's weights.
            tuned: Folder that `save` wrote into.
        """
        ...

    def merge(self, base: Path, tuned: Path) -> Any:
        """The trained model in fp32 as a plain model; never called without `Can.merging`.

        Args:
            base: Folder with the base's weights.
            tuned: Folder that `save` wrote into.

        Raises:
            PipelineError: The trained weights cannot be merged.
        """
        ...


@runtime_checkable
class EndsEarly(Protocol):
    """A method whose backward pass ends above the first block; beside `Method`, and only where it does."""

    def reached_layers(self, shape: ModelShape) -> int:
        """Blocks that the backward pass reaches; those below keep nothing for it."""
        ...


def count_reached_layers(method: Method, shape: ModelShape) -> int:
    """Blocks that keep something for the backward pass."""
    return method.reached_layers(shape) if isinstance(method, EndsEarly) else shape.layers


@runtime_checkable
class MakesWeights(Protocol):
    """A method that makes weights anew in each pass and keeps them for the backward pass; beside `Method`."""

    def kept_per_pass(self, shape: ModelShape) -> int:
        """Numbers that its modules keep for the backward pass whatever the tokens, over all layers."""
        ...


def count_kept_per_pass(method: Method, shape: ModelShape) -> int:
    """Numbers that a method keeps for the backward pass whatever the tokens."""
    return method.kept_per_pass(shape) if isinstance(method, MakesWeights) else 0


@runtime_checkable
class ChoosesWhileTraining(Protocol):
    """A method that chooses something while it trains, for the page of stage 4; beside `Method`."""

    def outcome(self, model: Any) -> dict[str, str]:
        """What it chose, in words.

        Args:
            model: What `Method.adapt` returned, trained.
        """
        ...


def tell_outcome(method: Method, model: Any) -> dict[str, str]:
    """What a method chose while it trained."""
    return method.outcome(model) if isinstance(method, ChoosesWhileTraining) else {}


@runtime_checkable
class PutsTokens(Protocol):
    """A method that puts vectors of its own before every row; beside `Method`."""

    @property
    def virtual_tokens(self) -> int:
        """How many, each of which takes room of the context and memory as a token does."""
        ...


def count_virtual_tokens(method: Method) -> int:
    """Vectors that a method puts before every row."""
    return method.virtual_tokens if isinstance(method, PutsTokens) else 0


@runtime_checkable
class ChangesArchitecture(Protocol):
    """A method that makes its model of copies of the base's weights, and merges into another architecture than the
    base's; beside `Method`."""

    @property
    def released_as(self) -> str:
        """The architecture, as in a ``config.json``."""
        ...


@runtime_checkable
class ReadsBase(Protocol):
    """A method that may compute something from the base's weights when it is put beside them; beside `Method`."""

    @property
    def reads_base(self) -> bool:
        """Whether it does, so that the weights have to be whole for it."""
        ...


def reads_base(method: Method) -> bool:
    """Whether a method computes something from the base's weights before the first step, other than their sizes."""
    return isinstance(method, ReadsBase) and method.reads_base


@runtime_checkable
class HasFigures(Protocol):
    """A method that measures something in each step, for the curves of stage 4; beside `Method`."""

    @property
    def figures(self) -> Mapping[str, str]:
        """Name to meaning, a sentence without its end."""
        ...


def figures_of(method: Method) -> Mapping[str, str]:
    """What a method measures in each step."""
    return method.figures if isinstance(method, HasFigures) else {}
