"""Whether there is anything to do, asked of DVC alone: where there is not, no Prefect is imported or started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flows.wiring.dvc_repository import open_repository
from flows.wiring.lock import one_at_a_time
from flows.wiring.overview import is_current, write_overview
from flows.wiring.params import read_params
from flows.wiring.recording import UNSENT, ensure_sender
from flows.wiring.settings import configure
from flows.wiring.yaml_file import read_yaml
from tasks.contracts.errors import PipelineError

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
    read_yaml(Path("dvc.yaml"))
    if unknown := [name for name in stages if name not in STAGES]:
        raise PipelineError(f'unknown stage "{unknown[0]}"; valid names: {", ".join(STAGES)}')


def are_unchanged(stages: Sequence[str], wait: bool = False) -> bool:
    """Whether DVC would skip all these stages. Then the overview is brought up to date, and all is done.

    Args:
        stages: Which, in DVC's order.
        wait: Wait for another pipeline in this checkout instead of refusing.

    Raises:
        PipelineError: Params are wrong, a stage is unknown, or another pipeline is at work.
    """
    os.chdir(configure())
    check(stages)
    with one_at_a_time(wait):
        if not dvc_skips(stages):
            return False
        if not is_current():
            write_overview()
    if any(UNSENT.glob("*.jsonl")):
        ensure_sender()
    return True


def dvc_skips(stages: Sequence[str]) -> bool:
    """Whether DVC finds no stage changed; what it cannot tell counts as changed, and the run says why."""
    from dvc.exceptions import DvcException

    try:
        with open_repository() as repo, repo.lock:
            return not any(repo.stage.load_one(name=name).changed() for name in stages)
    except DvcException:
        return False
