"""What a finished run is, over all of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tasks.fine_tuning.curve import Point
from tasks.training.objectives.rollouts.samples_file import ShownSample
from tasks.training.plan import Plan
from tasks.training.quantization.measure import WeightPart


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        plan: What was run.
        curve: Logged steps.
        steps: Optimizer steps done; fewer than planned where the run was stopped early.
        kept_step: The step whose weights are in the tuned folder.
        trained: Weights that got gradients.
        weights: The weights of the model as trained, by part.
        bytes: Size of the tuned folder's files.
        samples: Answers that the model wrote while it was trained, a few of some steps.
        resumed_at: Step of the checkpoint that the run resumed from; 0 without one.
        skipped: Steps that changed nothing, since their loss or gradient was not a number.
        outcome: What the method chose while it trained, in words.
        borders: Of the phases but the first: the step that each begins after, and its first place in the curve.
    """

    plan: Plan
    curve: tuple[Point, ...]
    steps: int
    kept_step: int
    trained: int
    weights: tuple[WeightPart, ...]
    bytes: int
    resumed_at: int
    skipped: tuple[int, ...] = ()
    outcome: dict[str, str] = field(default_factory=dict)
    samples: tuple[ShownSample, ...] = ()
    borders: tuple[tuple[int, int], ...] = ()

    @property
    def last_curve(self) -> tuple[Point, ...]:
        """Logged steps of the last phase."""
        return self.curve[self.borders[-1][1] if self.borders else 0 :]

    @property
    def epochs(self) -> float:
        """Passes over the rows of the last phase, fewer than planned where it was stopped early."""
        return self.plan.epochs_of(self.steps - (self.borders[-1][0] if self.borders else 0))

    @property
    def figures(self) -> dict[str, float | int]:
        return {"steps": self.steps, "kept_step": self.kept_step, "resumed_at": self.resumed_at, "bytes": self.bytes}


def join_phases(runs: Sequence[Run]) -> Run:
    """The last phase's run, with the curve and the steps of all of them."""
    curve: list[Point] = []
    borders, skipped, steps = [], [], 0
    for run in runs:
        if curve:
            borders.append((steps, len(curve)))
        curve += [replace(point, step=steps + point.step) for point in run.curve]
        skipped += [steps + step for step in run.skipped]
        steps += run.steps
    last = runs[-1]
    before = steps - last.steps
    return replace(
        last,
        curve=tuple(curve),
        steps=steps,
        kept_step=before + last.kept_step,
        resumed_at=before + last.resumed_at if last.resumed_at else max(run.resumed_at for run in runs),
        skipped=tuple(skipped),
        borders=tuple(borders),
    )
