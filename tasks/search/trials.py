"""A trial as the rest of the search sees it, whatever keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tasks.search.space import Labels

# The figure by which trials are ranked and pruned.
LOSS = "validation_loss"
# What objectives are compared by, on the validation rows' own answers.
ANSWER_LOSS, PREFERENCES = "answer_loss", "preferences_held"
# Why a trial was interrupted.
INTERRUPTED, KILLED = "the search was interrupted while it ran", "the search was killed while it ran"
State = Literal["finished", "pruned", "failed"]
# Step and figures of a logged step.
OnFigures = Callable[[int, Mapping[str, float]], None]


class PrunedTrial(Exception):
    """The trial was given up, because others were better at the same step."""


class DeadTrial(Exception):
    """The trial's process ended without saying why: killed, out of memory, or a defect."""


@dataclass(frozen=True)
class TrialResult:
    """What a finished training says about its params.

    Attributes:
        loss: Validation loss at its end, nats per supervised token.
        steps: Optimizer steps.
        rows: Sum of the losses and number of the supervised tokens of each validation row, (rows, 2) numbers; None
            where they are not at hand.
        figures: Name to what else was measured at its end.
    """

    loss: float
    steps: int
    rows: Any = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchTrial:
    """One trial of a search.

    Attributes:
        number: From 0, in the order in which they began.
        again_of: The trial that this one repeats, because that was interrupted or its process died.
        labels: The values, as samplers have them.
        changes: The values, as ``-S`` takes them.
        state: How it ended.
        loss: Validation loss at its end, or the last one where it was pruned; None where it failed.
        losses: Validation loss by optimizer step.
        steps: Optimizer steps of a finished one.
        seconds: How long it took; None where it was killed with the search, and nobody was there to look.
        reason: Why it failed.
        figures: Name to what else was measured at the end of a finished one.
    """

    number: int
    again_of: int | None
    labels: Labels
    changes: Mapping[str, Any]
    state: State
    loss: float | None
    losses: Mapping[int, float]
    steps: int | None
    seconds: float | None
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether the search ended under it; it is repeated."""
        return self.reason in (INTERRUPTED, KILLED)


class RunTrial(Protocol):
    """Trains with some params changed."""

    def __call__(self, changes: Mapping[str, Any], folder: Path, on_figures: OnFigures) -> TrialResult:
        """Train in a folder of its own, from what an earlier attempt left there.

        Raises:
            PrunedTrial: ``on_figures`` asked for it.
            DeadTrial: Its process ended without a word.
            PipelineError: It cannot work with these params.
        """
        ...


class TrialRecord(Protocol):
    """Where a trial is shown while it runs."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None: ...

    def finish(self, trial: SearchTrial) -> None: ...

    def stop(self) -> None:
        """The trial was interrupted together with the search."""
        ...


class BeginRecord(Protocol):
    """Begins to show a trial."""

    def __call__(self, number: int, changes: Mapping[str, Any]) -> TrialRecord: ...
