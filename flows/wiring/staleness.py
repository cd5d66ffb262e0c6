"""Whether there is anything to do, asked of DVC alone: where there is not, no Prefect is imported or started."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.wiring import artifacts
from flows.wiring.dvc_repository import open_repository
from flows.wiring.lock import one_at_a_time
from flows.wiring.overview import is_current, write_overview
from flows.wiring.params import read_params
from flows.wiring.recording import UNSENT, ensure_sender
from flows.wiring.settings import configure
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


def check(stages: Sequence[str]) -> None:
    """Refuse wrong params and unknown stages before anything starts.

    Raises:
        PipelineError: Params are wrong, a stage is unknown, or ``dvc.yaml`` cannot be read.
    """
    read_params()
    read_yaml(artifacts.PIPELINE)
    if unknown := [name for name in stages if name not in STAGES]:
        raise PipelineError(f'unknown stage "{unknown[0]}"; valid names: {", ".join(STAGES)}')


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
    """Whether DVC finds no stage changed; what it cannot tell counts as changed, and the run says why."""
    from dvc.exceptions import DvcException

    try:
        with open_repository() as repo, repo.lock:
            ordered = order(repo, stages)
            changed = {stage.addressing for stage in ordered if stage.changed()}
    except DvcException:
        return False
    if single_item and not changed & set(stages):
        warn_of_changed_upstream(stages, [stage.addressing for stage in ordered if stage.addressing in changed])
    return not (changed & set(stages) if single_item else changed)


def order(repo: Repo, stages: Sequence[str]) -> list[Stage]:
    """These stages and all that they stand on, in the order in which ``dvc repro`` would run them.

    Args:
        repo: The checkout.
        stages: Names in ``dvc.yaml``. What they stand on may also be files of ``dvc add`` and stages of the user.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro

    named = [repo.stage.load_one(name=name) for name in stages]
    graph = get_active_graph(repo.index.graph)
    found: dict[str, Stage] = {}
    for stage in named:
        found |= {each.addressing: each for each in plan_repro(graph, [stage])}
    return list(found.values())


def order_stages(stages: Sequence[str], single_item: bool = False) -> list[str]:
    """What has to be brought up to date for these stages, in DVC's order.

    Args:
        stages: Which.
        single_item: These alone, as ``dvc repro --single-item``; what has changed of the others is warned of.

    Raises:
        PipelineError: DVC cannot read ``dvc.yaml`` or a file beside it.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        with open_repository() as repo, repo.lock:
            ordered = order(repo, stages)
            if not single_item:
                return [stage.addressing for stage in ordered]
            changed = [stage.addressing for stage in ordered if stage.addressing not in stages and stage.changed()]
    except LockError as error:
        raise PipelineError(f"DVC is busy in this checkout: {' '.join(str(error).split())}") from error
    except DvcException as error:
        raise PipelineError(" ".join(str(error).split())) from error
    warn_of_changed_upstream(stages, changed)
    return [stage.addressing for stage in ordered if stage.addressing in stages]


def warn_of_changed_upstream(stages: Sequence[str], changed: Sequence[str]) -> None:
    if changed:
        logger.warning(
            "%s: on what is there, although %s changed and %s not run (--single-item)",
            ", ".join(stages), ", ".join(changed), "is" if len(changed) == 1 else "are",
        )  # fmt: skip
