"""The shape of a distribution, and the facts that the rest of the pipeline asks it for.

A distribution is a frozen section of params. Training setup checks it against model, method and machine and writes it
into the plan; fine-tuning starts the processes of the plan and trains as it says. Each process is a rank, counted from
0 over all machines.

However a run is distributed, the ranks of a step see the rows that one process would see in as many accumulated
batches, and its loss is the mean over the supervised tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from tasks.contracts.machine import Device
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.memory import Memory


@dataclass(frozen=True)
class DistributionCan:
    """What a distribution can. Refusals and tables are made of it, and the contract test holds every member to it.

    A fact is added together with the code that asks for it; none has a default, so every distribution has to answer.

    Attributes:
        many: Share a training among several processes.
        sharded: Keep a share of the optimizer's states, and of the weights they belong to, in each rank.
        resize: Resume a checkpoint with another number of ranks than wrote it.
        skips_steps: Leave out a step whose gradient is not a number.
    """

    many: bool
    sharded: bool
    resize: bool
    skips_steps: bool


@dataclass(frozen=True)
class Layout:
    """A run as far as its configuration for several ranks depends on it.

    Attributes:
        ranks: Processes on all machines.
        batch_size: Rows of a forward pass of one rank.
        accumulation_steps: Forward passes of one optimizer step.
        clip_norm: Largest norm of the gradient; 0 is off.
        precision: Of the computation.
        device: Where the model is trained.
    """

    ranks: int
    batch_size: int
    accumulation_steps: int
    clip_norm: float
    precision: Precision
    device: Device


class Distribution(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument.

    Only `shard` and what comes after it touch a model, and only they import PyTorch and what is built on it; all ranks
    call them together.
    """

    can: ClassVar[DistributionCan]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    @property
    def nodes(self) -> int:
        """Machines."""
        ...

    @property
    def reads_back(self) -> bool:
        """Whether its checkpoints are read back as they were written."""
        ...

    def ranks(self, processes: int) -> int:
        """Processes on all machines.

        Args:
            processes: Processes on each machine.
        """
        ...

    def problems(self, processes: int, device: Device) -> list[str]:
        """Everything that cannot work: what was found, what was expected, the next step.

        Args:
            processes: Processes on each machine.
            device: Where the model is trained.
        """
        ...

    def missing_here(self) -> list[str]:
        """What this machine lacks for it, told before a process is started; each with what to change."""
        ...

    def prepare_here(self) -> None:
        """Make what all processes of this machine would otherwise wait for.

        Raises:
            PipelineError: It cannot be made here.
        """
        ...

    def resolve(self, shape: ModelShape, layout: Layout) -> Self:
        """The same distribution with nothing left to choose, as the plan keeps it; resolved again it is the same.

        Raises:
            PipelineError: A file of the user's cannot be read or disagrees with the plan.
        """
        ...

    def per_rank(self, memory: Memory, shape: ModelShape, ranks: int, precision: Precision) -> Memory:
        """What one rank holds.

        Args:
            memory: What one process would hold that trains alone.
            shape: The model.
            ranks: Processes on all machines.
            precision: Of the computation.
        """
        ...

    def describe(self) -> str:
        """The distribution in words, for a page, the middle of a sentence."""
        ...

    def arguments(self, batch_size: int, accumulation_steps: int) -> dict[str, Any]:
        """What the trainer of transformers gets, by its names; of a resolved distribution.

        Args:
            batch_size: Rows of a forward pass of one rank, which may be fewer than planned where memory ran out.
            accumulation_steps: Forward passes of one optimizer step.
        """
        ...

    def shard(self, model: Any) -> Any:
        """The adapted model as a rank holds it."""
        ...

    def gather(self, model: Any) -> dict[str, Any]:
        """The trained weights by name, whole, in fp32 and on the CPU; on the first rank, empty on the others."""
        ...

    def own_share(self, model: Any, names: Collection[str]) -> dict[str, Any]:
        """What this rank's optimizer updates of some trained weights: they themselves, or its part as a flat list."""
        ...

    def put_share(self, model: Any, share: Mapping[str, Any]) -> None:
        """Change what `own_share` gave; the model computes with it once all ranks have called `spread`."""
        ...

    def spread(self, model: Any, names: Collection[str]) -> None:
        """Have the model compute with what the ranks' optimizers hold of some trained weights."""
        ...

    def cut_share(self, model: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
        """This rank's share of whole trained weights, which all ranks hold."""
        ...

    def state_files(self, ranks: int) -> list[str]:
        """Files, or patterns of files, that a checkpoint has from `save_state`, below its folder."""
        ...

    def save_state(self, trainer: Any, folder: Path) -> None:
        """Write trained weights and optimizer states of a checkpoint; all ranks, into one folder."""
        ...

    def load_state(self, trainer: Any, folder: Path) -> None:
        """Read what `save_state` wrote, once model and optimizer are made."""
        ...

    def load_weights(self, trainer: Any, folder: Path) -> None:
        """Read the weights that `save_state` wrote, after the last step, when the optimizer no longer matters."""
        ...
