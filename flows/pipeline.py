"""The seven stages in DVC's order, as one Prefect flow.

DVC decides what is stale and runs it in a process of its own; this flow orders, retries and shows.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from flows.wiring.lock import one_at_a_time
from flows.wiring.settings import configure

configure()

import httpx  # noqa: E402 - the engines read their settings on import
from prefect import flow, task  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.context import FlowRunContext, TaskRunContext  # noqa: E402
from prefect.exceptions import PrefectException  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402

from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import read_params  # noqa: E402
from flows.wiring.preflight.paths import check_inputs  # noqa: E402
from flows.wiring.processes import end, list_below, mark_process, show_mark  # noqa: E402
from flows.wiring.releases.source import freeze_source  # noqa: E402
from flows.wiring.runs import addresses  # noqa: E402
from flows.wiring.runs.recording import PIPELINE, REASON, wait_until_sent, warn_unanswered  # noqa: E402
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.wiring.servers.server import OWNER, ensure_server, prefect_at  # noqa: E402
from flows.wiring.staleness import STAGES, check, order_stages  # noqa: E402
from flows.wiring.stopping import Stopped, end_in_time, signal_of  # noqa: E402
from flows.wiring.versions.dvc_repository import open_repository  # noqa: E402
from flows.wiring.versions.lineage import git_commit  # noqa: E402
from tasks.contracts.errors import PipelineError, full_disk  # noqa: E402

logger = logging.getLogger(__name__)

Report = Callable[[str, str, float], None]
SENT_TIMEOUT_S = 20.0
WAKE_S = 1.0
# DVC lets go of its locks.
DVC_END_S = 1.0

R = TypeVar("R")

_report: ContextVar[Report | None] = ContextVar("report", default=None)


class StageCrashed(Exception):
    """A stage's process ended without saying why: killed, out of memory, or a defect."""


def run_pipeline(
    reason: str = "by hand",
    stages: Sequence[str] = STAGES,
    wait: bool = False,
    force: bool = False,
    report: Report | None = None,
    single_item: bool = False,
) -> dict[str, str]:
    """Bring the given stages up to date, and what they stand on before.

    Args:
        reason: Why, recorded in Prefect and MLflow.
        stages: Which.
        wait: Wait for another pipeline in this checkout instead of refusing.
        force: Run these stages even when nothing changed.
        report: Called after each of these stages, and after those that ran because these stand on them, with name,
            outcome and seconds.
        single_item: These stages alone, whatever has changed before them.

    Returns:
        Each stage's name and ``Ran``, ``Restored`` or ``Unchanged``.

    Raises:
        PipelineError: Params are wrong, another pipeline is at work, or a stage failed.
        Stopped: A signal asked this process or a stage to end.
    """
    os.chdir(configure())
    check(stages)
    if force:
        check_inputs(read_params(), stages)
    url = ensure_server()
    with prefect_at(url), stages_reported_to(report or _report.get()), server_watched():
        state: Any = pipeline(reason, list(stages), force, wait, single_item, return_state=True)
    if not state.is_completed():
        raise PipelineError(state.message or "the pipeline failed")
    outcome: dict[str, str] = state.result()
    return outcome


@contextmanager
def server_watched() -> Iterator[None]:
    """Say in one line that the Prefect server went away while a flow was at work.

    Raises:
        PipelineError: It did.
    """
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        raise PipelineError(
            f"the Prefect server went away ({type(error).__name__}); start it and run again, finished stages are kept"
        ) from error


@contextmanager
def stages_reported_to(report: Report | None) -> Iterator[None]:
    """Have every pipeline in this block call ``report`` after each stage."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


@flow(name="pipeline", flow_run_name="pipeline: {reason}", persist_result=False, on_running=[note_run])
def pipeline(
    reason: str = "by hand",
    stages: list[str] | None = None,
    force: bool = False,
    wait: bool = True,
    single_item: bool = False,
) -> Any:
    """Reproduce each stage, and what it stands on before, in turn; stop at the first that fails.

    Args:
        reason: Why, also recorded in MLflow.
        stages: Which stages; all by default.
        force: Run these stages even when nothing changed.
        wait: Wait for another pipeline in this checkout instead of refusing.
        single_item: These stages alone, whatever has changed before them.
    """
    os.chdir(configure())
    stages = stages or list(STAGES)
    outcome: dict[str, str] = {}
    children = {OWNER: show_mark(mark_process(os.getpid()))}
    # A retrain has named its own run, which its pipelines are parts of.
    if PIPELINE not in os.environ:
        children |= {PIPELINE: this_flow_run(), REASON: reason}
    try:
        check(stages)
        show_links()
        with one_at_a_time(wait), recorded(), environment(**children):
            names = order_stages(stages, single_item, force)
            if "model_initialisation" in names:
                freeze_source()
            for name in names:
                began = time.monotonic()
                state = stage_task(name)(name, force and name in stages, return_state=True)
                if not state.is_completed():
                    return Failed(message=f"{name}: {state.message}")
                outcome[name] = state.name
                upstream = name not in stages
                if upstream and state.name != "Unchanged":
                    logger.info("%s: brought up to date first, for %s", name, ", ".join(stages))
                if (report := _report.get()) and not (upstream and state.name == "Unchanged"):
                    report(name, state.name, time.monotonic() - began)
    except PipelineError as error:
        return Failed(message=str(error))
    write_overview()
    return outcome


@contextmanager
def recorded() -> Iterator[None]:
    """At the end, give MLflow a short time to take what the stages recorded, and say once if it does not answer.

    Who interrupts the pipeline does not want to wait.
    """
    try:
        yield
    except Exception:
        end_recording()
        raise
    end_recording()


def end_recording() -> None:
    wait_until_sent(SENT_TIMEOUT_S)
    warn_unanswered()


def stage_task(name: str) -> Any:
    """The Prefect task of a stage. A crash is tried once more; what the user must mend is not."""
    made: Any = task(
        name=name,
        task_run_name=name,
        tags=["heptune", name],
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=1,
        retry_delay_seconds=2,
        retry_condition_fn=was_crash,
    )
    return made(reproduce)


def was_crash(_task: Any, _run: Any, state: State) -> bool:
    """Whether a stage ended without a reason of its own."""
    return StageCrashed.__name__ in (state.message or "")


def reproduce(name: str, force: bool = False) -> State:
    """Let DVC bring one stage up to date.

    Returns:
        ``Ran``; ``Restored`` when DVC's run cache had the outs of these inputs; ``Unchanged``; or ``Failed``
        with the stage's own one-line reason.

    Raises:
        StageCrashed: The stage's process ended without a reason.
        Stopped: A signal asked the stage, or this process, to end.
    """
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.lock import LockError
    from dvc.stage.exceptions import StageCmdFailedError

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        began, failure, stopped = (Path(folder) / word for word in ("began", "failure", "stopped"))
        with environment(HEPTUNE_PARENT_TASK_RUN=parent_task_run(), HEPTUNE_MESSAGES=folder):
            try:
                changed = run_dvc(name, force)
            except LockError as error:
                return Failed(message=f"DVC is busy in this checkout: {one_line(error)}")
            except ReproductionError as error:
                if stopped.is_file():
                    raise stage_stopped(int(stopped.read_text(encoding="utf-8"))) from error
                if failure.is_file():
                    return Failed(message=failure.read_text(encoding="utf-8"))
                if full := full_disk(error):
                    return Failed(message=full)
                if not isinstance(error.__cause__, StageCmdFailedError):
                    return Failed(message=one_line(error.__cause__ or error))
                if number := signal_of(exit_code(error.__cause__)):
                    raise stage_stopped(number) from error
                raise StageCrashed(f"its process ended without a reason ({one_line(error.__cause__)})") from error
            except (DvcException, PipelineError) as error:
                return Failed(message=one_line(error))
        if not changed:
            return Completed(name="Unchanged")
        # Only the seven say that they began.
        return Completed(name="Ran" if began.is_file() or name not in STAGES else "Restored")


def stage_stopped(number: int) -> Stopped:
    """A stage was stopped by a signal that this process did not get: it ends too, as soon as if it had."""
    end_in_time(number)
    return Stopped(number)


def exit_code(error: BaseException) -> int:
    """The exit code of a stage, which DVC's error has in its words only; 1 where it has none."""
    found = re.search(r"exited with (-?\d+)$", str(error))
    return int(found[1]) if found else 1


def run_dvc(name: str, force: bool) -> list[Any]:
    """Have DVC reproduce a stage, in a thread: in the main thread it would ignore Ctrl-C. The changed stages.

    Raises:
        Stopped: A signal asked this process to end; the stage was ended.
    """

    def work() -> list[Any]:
        with open_repository() as repo:
            changed: list[Any] = repo.reproduce(targets=[name], single_item=True, force=force)
            return changed

    answer: Future[list[Any]] = Future()
    thread = threading.Thread(target=lambda: settle(answer, work), name="dvc", daemon=True)
    thread.start()
    try:
        while not answer.done():
            wait([answer], timeout=WAKE_S)
    except BaseException:
        end(list_below(os.getpid()))
        thread.join(DVC_END_S)
        raise
    return answer.result()


def settle(answer: Future[R], work: Callable[[], R]) -> None:
    """Do work, and give what it returns or raises to who waits for it."""
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        answer.set_exception(error)


def show_links() -> None:
    """Put links to what belongs to this pipeline, or to the retrain that runs it, into the Prefect UI."""
    if addresses.has_reports():
        links = addresses.list_pipeline_links(os.environ.get(PIPELINE) or this_flow_run(), git_commit())
        create_markdown_artifact(
            key="pipeline-links",
            markdown=links,
            description="stages, MLflow run, evaluation, model version, newest request, revision",
        )


def this_flow_run() -> str:
    """Id of the Prefect flow run at work, the key of its MLflow run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("no flow run is at work; call this inside a flow")
    return str(context.flow_run.id)


def parent_task_run() -> str:
    context = TaskRunContext.get()
    return str(context.task_run.id) if context else ""


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for the children, taken back at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
