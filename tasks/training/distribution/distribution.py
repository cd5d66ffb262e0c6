"""The shape of a distribution, and the facts that the rest of the pipeline asks it for.

A distribution is a frozen section of params. Training setup checks it against model, method and machine and writes it
into the plan; fine-tuning starts the processes of the plan and trains as it says. Each process is a rank, counted from
0 over all machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar


@dataclass(frozen=True)
class Can:
    """What a distribution can. Refusals and tables are made of it.

    A fact is added together with the code that asks for it; none has a default, so every distribution has to answer.

    Attributes:
        many: Share a training among several processes.
    """

    many: bool


class MemoryParts(Protocol):
    """The parts of a prediction of memory, in bytes, that a distribution changes; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def weights(self) -> int: ...

    @property
    def gradients(self) -> int: ...

    @property
    def optimizer(self) -> int: ...


M = TypeVar("M", bound=MemoryParts)


class Distribution(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument."""

    can: ClassVar[Can]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def ranks(self, processes: int) -> int:
        """Processes on all machines.

        Args:
            processes: Processes on each machine.
        """
        ...

    def problems(self, processes: int) -> list[str]:
        """Everything that cannot work: what was found, what was expected, the next step.

        Args:
            processes: Processes on each machine.
        """
        ...

    def per_rank(self, memory: M, ranks: int) -> M:
        """What one rank holds.

        Args:
            memory: What one process would hold that trains alone.
            ranks: Processes on all machines.
        """
        ...

    def describe(self) -> str:
        """The distribution in words, for a page, the middle of a sentence."""
        ...
