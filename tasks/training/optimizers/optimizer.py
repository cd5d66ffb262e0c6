"""The shape of an optimizer, and the facts that the rest of the pipeline asks it for.

An optimizer is a frozen section of params. Training setup holds it against the method, the machine and the rest of the
plan, and writes it into the plan; fine-tuning builds it from groups of weights. Nothing else knows how one works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from tasks.contracts.machine import Device
from tasks.training.choices import Precision
from tasks.training.weights import TrainedWeights

BYTES = 4  # of a number that an optimizer keeps in fp32


@dataclass(frozen=True)
class OptimizerCan:
    """What an optimizer can. Refusals and tables are made of it, and the contract test holds every one to it.

    A fact is added together with the code that asks for it; none has a default, so every optimizer has to answer.

    Attributes:
        needs_backward: Need gradients; else two forward passes are all that a step takes.
        keeps_gradients: Take a step after the backward pass, when the gradients of all weights exist; else within it.
        accumulates: Take one step for the batches of several passes.
        clips: Take a step after the norm of the whole gradient was limited.
        full_batch: Take a step over all rows of the training split.
        several_ranks: Train in several processes, each with all weights and the mean of their gradients.
        sharded: Train where each process keeps a part of the weights or of the states (ZeRO, FSDP): every number of a
            weight is then updated by itself.
        forgets: Go on when its states of some weights are dropped between two steps, and leave weights alone that have
            no gradient.
        library: Name of the package, beside PyTorch and transformers, that has the update; empty without one.
        rate_shares: The lowest and the highest usual learning rate as multiples of AdamW's; None where AdamW's are no
            measure.
    """

    needs_backward: bool
    keeps_gradients: bool
    accumulates: bool
    clips: bool
    full_batch: bool
    several_ranks: bool
    sharded: bool
    forgets: bool
    library: str
    rate_shares: tuple[float, float] | None


# What is true of every optimizer that takes a step once the backward pass has left the gradients of all weights.
USUAL = OptimizerCan(
    needs_backward=True,
    keeps_gradients=True,
    accumulates=True,
    clips=True,
    full_batch=False,
    several_ranks=True,
    sharded=True,
    forgets=True,
    library="",
    rate_shares=(1.0, 1.0),
)
# Of those that use each gradient in the backward pass and drop it. A second process would have to see each before that.
INSIDE_BACKWARD = replace(
    USUAL,
    keeps_gradients=False,
    accumulates=False,
    clips=False,
    several_ranks=False,
    sharded=False,
    forgets=False,
    rate_shares=None,
)


@dataclass(frozen=True)
class OptimizerUse:
    """What an optimizer is to be used for.

    Attributes:
        trained: The weights that it updates.
        frozen_base: They are the method's own, beside a base that stays as it is.
        device: Where they are.
        learning_rate: Peak.
        schedule: Name of the learning rate's course.
        accumulation_steps: Forward passes of a step.
        clip_norm: Largest norm of the gradient; 0 is off.
        precision: Of the computation.
        averaged: A moving average of the weights is kept beside them, and is what counts.
    """

    trained: TrainedWeights
    frozen_base: bool
    device: Device
    learning_rate: float
    schedule: str
    accumulation_steps: int
    clip_norm: float
    precision: Precision
    averaged: bool


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
