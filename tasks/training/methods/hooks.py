"""What a method does from step to step, where it does anything: which weights it trains now, calls around each
optimizer step, a term of the loss, a state of its own.

Most methods need none of it and say nothing. One that does has `Stepwise.hooks`, which training calls once, with the
model as `adapt` returned it and before any checkpoint is read. Steps are counted from 1, and what is trained in one is
a function of the method, the `RunFacts` and the step's number alone, so that a resumed run needs nothing to know it.

A weight that is not trained in a step gets no gradient and no weight decay, and the optimizer's states of a weight that
leaves the trained set are freed: when it comes back, its means begin anew. What trains other weights in other steps is
`tasks.training.methods.parts.Changing` as well, which tells the prediction of memory how much is trained at a time.

Example: a method that trains one half of its weights in odd steps and the other half in even ones returns the names of
one of them from `StepHooks.trained`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from tasks.training.rows import TokenizedRows

STATE = "method.safetensors"  # of a checkpoint: what `StepHooks.state` gave


@dataclass(frozen=True)
class RunFacts:
    """What a run is, as far as hooks may depend on it.

    Attributes:
        steps: Optimizer steps of the whole run.
        steps_per_epoch: Optimizer steps of one epoch.
        seed: Of the run.
    """

    steps: int
    steps_per_epoch: int
    seed: int


class StepHooks:
    """Does nothing; a method overrides what it needs. In several processes each rank calls all of it.

    Attributes:
        keeps_state: There is a state, which every checkpoint has to hold.
    """

    keeps_state: ClassVar[bool] = False

    def trained(self, step: int) -> frozenset[str] | None:
        """Names of the weights that are trained in a step, all of them trainable after `adapt`; None: all of those."""
        return None

    def rate_factor(self, name: str) -> float:
        """What the learning rate of a weight is multiplied with, by its name; the first groups' is the one logged."""
        return 1.0

    def begin(self, model: Any, rows: TokenizedRows) -> None:
        """Called once in a run, before the first step; not in one that is resumed, so what it finds is a state.

        Args:
            model: As it is trained.
            rows: All training rows.
        """

    def before(self, model: Any, step: int) -> None:
        """Called before the forward pass of a step, once it is set which weights require gradients."""

    def after(self, model: Any, step: int) -> None:
        """Called when the optimizer has made a step; gradients are still there, None for a step that was skipped."""

    def extra_loss(self, model: Any, step: int) -> Any:
        """A scalar that is added to the loss in training, its mean over the batches of a step; None: no such term."""
        return None

    def take_figures(self) -> Mapping[str, tuple[Any, int]]:
        """Name, one of `tasks.training.methods.method.HasFigures`, to the sum of a figure of the last batch and the
        number of what was summed; asked after `extra_loss`."""
        return {}

    def state(self, model: Any) -> dict[str, Any]:
        """Tensors by name that a resumed run needs beside weights and optimizer; the same on every rank."""
        return {}

    def load_state(self, model: Any, state: Mapping[str, Any]) -> None:
        """Take what `state` gave, in a resumed run and in the model that is saved; the weights are there already."""


@runtime_checkable
class Stepwise(Protocol):
    """A method that does something from step to step, beside being a `Method`."""

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> StepHooks:
        """What it does.

        Args:
            model: What `adapt` returned.
            run: The run.
            initial: Folder written by model initialisation, for the base's own weights.
        """
        ...


def make_hooks(method: Any, model: Any, run: RunFacts, initial: Path) -> StepHooks:
    """The hooks of a method; those that do nothing where it has none."""
    return method.hooks(model, run, initial) if isinstance(method, Stepwise) else StepHooks()
