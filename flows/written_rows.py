"""What flows have in common in which a model writes rows: one at a time in a checkout, shown and recorded.

Their results are no functions of files and no stages: they enter the pipeline as files below ``data/raw/synthetic``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.wiring.settings import configure

configure()

from filelock import FileLock, Timeout  # noqa: E402 - the engines read their settings on import
from prefect.artifacts import create_link_artifact, create_table_artifact  # noqa: E402
from prefect.states import Failed  # noqa: E402

from flows.pipeline import end_recording, server_watched  # noqa: E402
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.params.places import flatten  # noqa: E402
from flows.wiring.runs import addresses  # noqa: E402
from flows.wiring.runs.recording import Recorder  # noqa: E402
from flows.wiring.servers.server import ensure_server, prefect_at  # noqa: E402
from tasks.contracts.errors import PipelineError  # noqa: E402
from tasks.contracts.params import Section  # noqa: E402

SPLITS = {"train": artifacts.TRAIN, "validation": artifacts.VALIDATION, "test": artifacts.TEST}

Figures = dict[str, int | float]


def run_for_rows(name: str, work: Any) -> Figures:
    """Run a flow from the command line; its figures.

    Args:
        name: The flow.
        work: The flow as a function without arguments, which returns `write_alone`.

    Raises:
        PipelineError: It failed.
    """
    os.chdir(configure())
    url = ensure_server()
    with prefect_at(url), server_watched():
        state: Any = work(return_state=True)
    if not state.is_completed():
        raise PipelineError(state.message or f"the {name} failed")
    figures: Figures = state.result()
    return figures


def write_alone(name: str, kept: str, write: Callable[[], Figures]) -> Any:
    """The figures of the work, or a failed state: its error, or that another one is running in this checkout.

    Args:
        name: The flow.
        kept: What the other one does not lose, for the message.
        write: The work.
    """
    os.chdir(configure())
    lock = artifacts.STATE / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            return write()
    except Timeout:
        return Failed(message=f"another {name} is running in this checkout; wait for it, {kept}")
    except PipelineError as error:
        return Failed(message=str(error))


def record_run(name: str, settings: Section, figures: Mapping[str, int | float], page: Path) -> None:
    """Record the figures in the Prefect UI and in an MLflow run."""
    rows = [{"figure": key, "value": value} for key, value in figures.items()]
    create_table_artifact(key=f"{name}-figures", table=rows, description=f"Figures of the {name}")
    create_link_artifact(key=f"{name}-report", link=addresses.newest_report(name), link_text=f"Report of the {name}")
    recorder = Recorder(name, None, {"heptune.kind": name})
    recorder.params(flatten(settings.model_dump(mode="json")))
    recorder.metrics(0, figures)
    recorder.artifact(page)
    recorder.finish("FINISHED")
    end_recording()
