"""Flow runs whose process was killed end as Crashed in Prefect, or as Cancelled below a run that was cancelled there.

A process notes each flow run that it begins in a file of its own; after the process has ended, the next command, or
``heptune up``, asks the server which of them it still holds for unfinished.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from flows.wiring import artifacts
from flows.wiring.processes import has_process, mark_process, read_mark, show_mark
from flows.wiring.settings import configure

logger = logging.getLogger(__name__)

RUNS = artifacts.STATE / "prefect" / "runs"
UNFINISHED = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]


def note_run(flow: Any, flow_run: Any, state: Any) -> None:
    """Hook of a flow that begins (``on_running``): note which process runs it."""
    folder = configure() / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"run": str(flow_run.id), "api": os.environ.get("PREFECT_API_URL", "")})
    with (folder / show_mark(mark_process(os.getpid()))).open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def crash_ended_runs(url: str) -> None:
    """End the flow runs of ended processes, with their task runs, where the server has them unfinished.

    Args:
        url: The server's API. Runs of another server stay noted, unless that was a local one of this checkout, whose
            runs every local server knows.
    """
    from prefect.exceptions import PrefectException

    for path in RUNS.glob("*"):
        mark = read_mark(path.name)
        if mark is not None and (mark[0] == os.getpid() or has_process(mark)):
            continue
        noted = _read(path)
        elsewhere = [note for note in noted if not _is_same(note["api"], url)]
        try:
            if runs := [note["run"] for note in noted if note not in elsewhere]:
                _crash(url, runs)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("Prefect may still show runs of a killed process as running (%s)", type(error).__name__)
            return
        if not elsewhere:
            path.unlink(missing_ok=True)


def _read(path: Path) -> list[dict[str, str]]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            note = json.loads(line)
            found.append({"run": str(note["run"]), "api": str(note["api"])})
        except (ValueError, KeyError, TypeError):  # cut off by the kill
            continue
    return found


def _is_same(noted: str, url: str) -> bool:
    """Whether a run noted at one address is known at the other: a local server has another port each time."""
    local = "http://127.0.0.1:"
    return noted == url or (noted.startswith(local) and url.startswith(local))


def _crash(url: str, runs: list[str]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL, temporary_settings

    ids = FlowRunFilterId(any_=[UUID(run) for run in runs])
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(id=ids)):
            if run.state is None or run.state.is_final():
                continue
            of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
            unfinished = TaskRunFilter.model_validate({"state": {"type": {"any_": UNFINISHED}}})
            tasks = client.read_task_runs(flow_run_filter=of_run, task_run_filter=unfinished)
            with contextlib.suppress(ObjectNotFound):  # deleted in between
                ended = _end_state(client, run)
                for task in tasks:
                    client.set_task_run_state(task.id, ended, force=True)
                client.set_flow_run_state(run.id, ended, force=True)
                logger.info("%s: its process was killed; Prefect has it as %s now", run.name, ended.name)


def _end_state(client: Any, run: Any) -> Any:
    """The state of a run whose process is gone: Cancelled where it was to be, or the run above it was."""
    from prefect.client.schemas.objects import StateType
    from prefect.states import Cancelled, Crashed

    if run.state.type == StateType.CANCELLING:
        return Cancelled(message="cancelled in Prefect")
    if run.parent_task_run_id and (above := client.read_task_run(run.parent_task_run_id).flow_run_id):
        state = client.read_flow_run(above).state
        if state and state.type in (StateType.CANCELLED, StateType.CANCELLING):
            return Cancelled(message="the run above it was cancelled")
    return Crashed(message="its process was killed")
