"""Several trainings in one run, each from what the one before trained: answers first, preferences next.

Each phase is resolved to a plan of its own, by the same rules; the last plan has those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from tasks.contracts.errors import raise_all
from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training.combinations import splits_while_reading
from tasks.training.methods import METHODS
from tasks.training.methods.hooks import Stepwise
from tasks.training.plan import Plan
from tasks.training_setup.counts import Counts, count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import Resolution, resolve_plan


@dataclass(frozen=True)
class PhaseCounts:
    """The tokens of the splits as each phase of a run counts them.

    Attributes:
        each: In the order of the phases.
    """

    each: tuple[Counts, ...]

    @property
    def last(self) -> Counts:
        return self.each[-1]

    @property
    def figures(self) -> dict[str, float | int]:
        """Those of the last phase."""
        return self.last.figures


def count_phases(
    settings: TrainingSetup, train: pa.Table, validation: pa.Table, initial: Path, answers: pa.Table
) -> PhaseCounts:
    """Tokenize both splits as each phase wants them, and count.

    Args:
        settings: Params of training setup.
        train: Schema `EXAMPLES`.
        validation: The same.
        initial: Folder written by model initialisation.
        answers: Schema `ANSWER_SETS`, of all splits.
    """
    counts: dict[str, Counts] = {}
    found = []
    for phase in settings.each_phase():
        way = str((phase.max_tokens, phase.long_rows, phase.objective, phase.mixture, phase.seed))
        if way not in counts:
            how = phase.max_tokens, phase.long_rows, phase.objective
            counts[way] = count_tokens(train, validation, initial, *how, answers, phase.mixture, phase.seed)
        found.append(counts[way])
    return PhaseCounts(tuple(found))


def resolve_phases(
    settings: TrainingSetup, shape: ModelShape, counts: Sequence[Counts], machine: Machine
) -> Resolution:
    """Make the plan; of several phases that of the last, with those before it.

    Args:
        settings: Params of training setup.
        shape: The base model.
        counts: Tokens of the splits, as each phase wants them.
        machine: Where it will run.

    Raises:
        PipelineError: Everything that cannot work, listed.
    """
    phases = settings.each_phase()
    resolutions = [resolve_plan(phase, shape, one, machine) for phase, one in zip(phases, counts, strict=True)]
    if len(phases) == 1:
        return resolutions[0]
    raise_all(_list_problems([resolution.plan for resolution in resolutions]), "the phases cannot work")
    plan: Plan | None = None
    for resolution in resolutions:
        plan = resolution.plan.model_copy(update={"before": plan})
    assert plan is not None
    said = [
        (f"phase {number}: {text}", kind)
        for number, resolution in enumerate(resolutions, start=1)
        for kind in ("warnings", "choices")
        for text in getattr(resolution, kind)
    ]
    warnings, choices = (tuple(text for text, of in said if of == kind) for kind in ("warnings", "choices"))
    largest = max(resolutions, key=lambda one: one.memory.total)
    return replace(resolutions[-1], plan=plan, warnings=warnings, choices=choices, memory=largest.memory)


def _list_problems(plans: Sequence[Plan]) -> list[str]:
    problems = []
    if any(plan.method != plans[0].method for plan in plans):
        methods = " and ".join(dict.fromkeys(plan.method.describe() for plan in plans))
        problems.append(f"phases: method auto takes {methods} in different phases; name one method")
    distribution = plans[-1].distribution
    if splits_while_reading(distribution) or distribution.nodes > 1:
        problems.append(
            "phases: what a phase trained cannot be given to weights that are split while they are read, or to "
            "another machine; take distribution {name: ddp} or {name: fsdp} on one machine, or no phases"
        )
    if isinstance(plans[-1].method, Stepwise):
        problems.append(
            f"phases: {plans[-1].method.describe()} changes what it trains from step to step, and would begin anew in "
            "each phase; take method "
            + " or ".join(method().name for method in METHODS if not isinstance(method(), Stepwise))
        )
    return problems
