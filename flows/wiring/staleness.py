"""Whether there is anything to do, asked of DVC alone: where there is not, no Prefect is imported or started."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.wiring import artifacts
from flows.wiring.lock import one_at_a_time
from flows.wiring.overview import is_current, write_overview
from flows.wiring.params import Params, read_params
from flows.wiring.preflight.paths import check_inputs
from flows.wiring.runs.recording import UNSENT, ensure_sender
from flows.wiring.settings import configure
from flows.wiring.versions.dvc_repository import open_repository
from flows.wiring.yaml_file import read_yaml
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

logger = logging.getLogger(__name__)

STAGES = (
    "data_preparation",
    "model_initialisation",
    "training_setup",
    "fine_tuning",
    "evaluation",
    "deployment",
    "monitoring",
)
# What else a stage is called by people.
VERBS = {
    "prepare": "data_preparation",
    "plan": "training_setup",
    "train": "fine_tuning",
    "finetune": "fine_tuning",
    "evaluate": "evaluation",
    "deploy": "deployment",
    "monitor": "monitoring",
}


def check(stages: Sequence[str]) -> None:
    """Refuse wrong params and unknown stages before anything starts.

    Raises:
        PipelineError: Params are wrong, a stage is unknown, or ``dvc.yaml`` cannot be read.
    """
    read_params()
    read_yaml(artifacts.PIPELINE)
    if unknown := [name for name in stages if name not in STAGES]:
        known = {name: name for name in STAGES} | VERBS
        near = difflib.get_close_matches(unknown[0].lower().replace("-", "_"), known, 1)
        hint = f'did you mean "{known[near[0]]}"? ' if near else ""
        raise PipelineError(f'unknown stage "{unknown[0]}"; {hint}valid names: {", ".join(STAGES)}')


def list_unchanged(stages: Sequence[str], wait: bool = False, single_item: bool = False) -> list[str]:
    """These stages, if DVC would skip all of them and all that they stand on; none where there is something to do.

    With nothing to do the overview is brought up to date, and all is done.

    Args:
        stages: Which.
        wait: Wait for another pipeline in this checkout instead of refusing.
        single_item: Look at these stages alone.

    Raises:
        PipelineError: Params are wrong, a stage is unknown, or another pipeline is at work.
    """
    os.chdir(configure())
    check(stages)
    with one_at_a_time(wait):
        if not dvc_skips(stages, single_item):
            return []
        if not is_current():
            write_overview()
    if any(UNSENT.glob("*.jsonl")):
        ensure_sender()
    return list(stages)


def dvc_skips(stages: Sequence[str], single_item: bool = False) -> bool:
    """Whether DVC finds no stage changed; what it cannot tell counts as changed, and the run says why.

    Raises:
        PipelineError: A stage has changed, and a file that it or a later one reads is not there.
    """
    from dvc.exceptions import DvcException

    try:
        with open_repository() as repo, repo.lock:
            plan = make_plan(repo, stages, single_item)
    except DvcException:
        return False
    if due := plan.list_due():
        check_inputs(read_params(), due)
    elif single_item:
        plan.warn_of_others()
    return not due


@dataclass(frozen=True)
class StagePlan:
    """What ``dvc repro`` would look at for some stages.

    Attributes:
        stages: The stages that were named.
        names: What is brought up to date, in DVC's order: these stages, with what they stand on unless they were asked
            for alone.
        changed: What DVC finds changed before anything runs, of all that they stand on.
    """

    stages: tuple[str, ...]
    names: tuple[str, ...]
    changed: frozenset[str]

    def list_due(self, force: bool = False) -> tuple[str, ...]:
        """The first that runs, and all after it, which may follow from it."""
        due = (at for at, name in enumerate(self.names) if name in self.changed or (force and name in self.stages))
        return self.names[next(due, len(self.names)) :]

    def warn_of_others(self) -> None:
        """Say what has changed and is not run."""
        others = [name for name in STAGES if name in self.changed - set(self.names)]
        if others:
            logger.warning(
                "%s: on what is there, although %s changed and %s not run (--single-item)",
                ", ".join(self.stages), ", ".join(others), "is" if len(others) == 1 else "are",
            )  # fmt: skip


def make_plan(repo: Repo, stages: Sequence[str], single_item: bool = False) -> StagePlan:
    """What has to be looked at for these stages.

    Args:
        repo: The checkout, locked.
        stages: Names in ``dvc.yaml``. What they stand on may also be files of ``dvc add`` and stages of the user.
        single_item: These alone, as ``dvc repro --single-item``.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro

    named = [repo.stage.load_one(name=name) for name in stages]
    graph = get_active_graph(repo.index.graph)
    ordered: dict[str, Stage] = {}
    for stage in named:
        ordered |= {each.addressing: each for each in plan_repro(graph, [stage])}
    return StagePlan(
        tuple(stages),
        tuple(name for name in ordered if name in stages or not single_item),
        frozenset(name for name, stage in ordered.items() if stage.changed()),
    )


def order_stages(
    stages: Sequence[str], single_item: bool = False, force: bool = False, params: Params | None = None
) -> tuple[str, ...]:
    """What has to be brought up to date for these stages, in DVC's order; what is missing for it is told first.

    Args:
        stages: Which.
        single_item: These alone; what has changed of the others is warned of.
        force: These run although nothing changed.
        params: Whose files are looked for; those of ``params.yaml`` by default.

    Raises:
        PipelineError: DVC cannot read ``dvc.yaml`` or a file beside it, or a file that a stage reads is not there.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        with open_repository() as repo, repo.lock:
            plan = make_plan(repo, stages, single_item)
    except LockError as error:
        raise PipelineError(f"DVC is busy in this checkout: {' '.join(str(error).split())}") from error
    except DvcException as error:
        raise PipelineError(" ".join(str(error).split())) from error
    check_inputs(params or read_params(), plan.list_due(force))
    if single_item:
        plan.warn_of_others()
    return plan.names
