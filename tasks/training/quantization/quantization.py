"""The shape of a quantisation: in how many bits the base's weights are held while a method trains on them.

A quantisation is a frozen section of params. Training setup resolves it for the method and the precision and writes it
into the plan; fine-tuning loads the base through it. What was trained is opened over the base in full precision, so
nothing after fine-tuning depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from tasks.contracts.machine import Device
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision


@dataclass(frozen=True)
class Abilities:
    """What a quantisation can; refusals and tables are made of it.

    Attributes:
        trained_base: The base's own weights can get gradients.
        sharded: Each rank can hold a part of every weight.
    """

    trained_base: bool
    sharded: bool


class Quantization(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument.

    Only `load` touches a model, and only it imports PyTorch and what is built on it.
    """

    can: ClassVar[Abilities]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def problems(self, shape: ModelShape, frozen_base: bool, precision: Precision, device: Device) -> list[str]:
        """Everything that cannot work: what was found, what was expected, the next step.

        Args:
            shape: The base model.
            frozen_base: The method leaves the base's weights as they are; always, without `Abilities.trained_base`.
            precision: Of the computation.
            device: Where it is trained.
        """
        ...

    def resolve(self, frozen_base: bool, precision: Precision) -> Self:
        """The same with nothing left to choose, as the plan keeps it; resolved again it is the same.

        Args:
            frozen_base: The method leaves the base's weights as they are.
            precision: Of the computation.
        """
        ...

    def base_bytes(self, shape: ModelShape) -> int:
        """Bytes of the base's weights as `load` holds them, with what decodes them; of a resolved one."""
        ...

    def cast_bytes(self, shape: ModelShape, precision: Precision) -> int:
        """Bytes of the copies of the base's weights, in the precision of the computation, that live at once."""
        ...

    def describe(self) -> str:
        """The resolved quantisation in words, for a page, the middle of a sentence."""
        ...

    def load(self, base: Path, precision: Precision, device: Device) -> Any:
        """The base as it is held while it is trained on; of a resolved one.

        Args:
            base: Folder with the base's weights, as `tasks.language_models.folder.model_folder.resolve_model` gives it.
            precision: Of the computation.
            device: Where it is trained.
        """
        ...
