"""The shape of an optimizer, and the facts that the rest of the pipeline asks it for.

An optimizer is a frozen section of params. Training setup holds it against the method, the machine and the rest of the
plan, and writes it into the plan; fine-tuning builds it from groups of weights. Nothing else knows how one works.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tasks.contracts.machine import Device
from tasks.training.weights import TrainedWeights

BYTES = 4  # of a number that an optimizer keeps in fp32


@dataclass(frozen=True)
class OptimizerCan:
    """What an optimizer can. Refusals and tables are made of it, and the contract test holds every one to it.

    A fact is added together with the code that asks for it; none has a default, so every optimizer has to answer.

    Attributes:
        several_ranks: Train in several processes, each with all weights and the mean of their gradients.
        sharded: Train where each process keeps a part of the weights or of the states (ZeRO, FSDP): every number of a
            weight is then updated by itself.
        rates_as_adamw: Take the learning rates that are usual with AdamW.
    """

    several_ranks: bool
    sharded: bool
    rates_as_adamw: bool


@dataclass(frozen=True)
class OptimizerUse:
    """What an optimizer is to be used for.

    Attributes:
        trained: The weights that it updates.
        frozen_base: They are the method's own, beside a base that stays as it is.
        device: Where they are.
        learning_rate: Peak.
        schedule: Name of the learning rate's course.
        processes: Training processes.
    """

    trained: TrainedWeights
    frozen_base: bool
    device: Device
    learning_rate: float
    schedule: str
    processes: int


class Optimizer(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument.

    Only `build` imports PyTorch and what is built on it.
    """

    can: ClassVar[OptimizerCan]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def problems(self, use: OptimizerUse) -> list[str]:
        """Everything that cannot work, beyond what `can` tells: what was found, what was expected, the next step."""
        ...

    def unusual(self, use: OptimizerUse) -> list[str]:
        """What works, but is probably not meant."""
        ...

    def state_bytes(self, trained: TrainedWeights) -> int:
        """Bytes that it keeps from step to step in one process that has all weights."""
        ...

    def describe(self) -> str:
        """The optimizer in words, for a page, a card, the middle of a sentence."""
        ...

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        """The optimizer as PyTorch has it.

        Args:
            groups: From `tasks.training.optimizers.groups`: ``params``, ``lr``, ``weight_decay`` and ``part`` of each.
            seed: Of what it draws at random.

        Returns:
            A `torch.optim.Optimizer` whose state is made of tensors and numbers alone, so that a checkpoint holds
            all of it and no code.
        """
        ...
