"""How a stage runs: params in, Prefect flow, MLflow run, files out.

A stage module ends in ``run(its_flow)`` and is started by DVC as ``python -m flows.<stage>``. Below a
pipeline it nests itself under the pipeline's task run; alone it is a flow run of its own.
"""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from flows.wiring.settings import configure, is_verbose, log_to_terminal

configure()
# Imports make objects that live until the end; looking for garbage among them takes a tenth of the time.
gc.disable()

import httpx  # noqa: E402 - the engines read their settings when they are imported
from prefect import Flow, flow  # noqa: E402
from prefect import task as prefect_task  # noqa: E402
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.exceptions import PrefectException  # noqa: E402
from prefect.flow_engine import run_flow  # noqa: E402
from prefect.states import Failed  # noqa: E402

from flows.wiring import artifacts  # noqa: E402
from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import Params, read_params  # noqa: E402
from flows.wiring.params.places import flatten  # noqa: E402
from flows.wiring.processes import ProcessMark, end, has_process, leading, list_below, show_mark  # noqa: E402
from flows.wiring.runs import addresses  # noqa: E402
from flows.wiring.runs.headline import read_headline  # noqa: E402
from flows.wiring.runs.recording import PIPELINE, Recorder, warn_unanswered  # noqa: E402
from flows.wiring.runs.records import (  # noqa: E402
    RunRecord,
    begin_record,
    describe_run,
    describe_subject,
    end_record,
)
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.wiring.servers.server import ensure_server, owner_above, prefect_at  # noqa: E402
from flows.wiring.stopping import STAGE_GRACE_S, Stopped, end_with, listen  # noqa: E402
from flows.wiring.versions import lineage  # noqa: E402
from tasks.contracts.errors import PipelineError, full_disk  # noqa: E402
from tasks.contracts.manifest import read_json  # noqa: E402

gc.freeze()
gc.enable()

logger = logging.getLogger(__name__)

PARENT = "HEPTUNE_PARENT_TASK_RUN"
MESSAGES = "HEPTUNE_MESSAGES"
SHOWN_S = 0.1
LINKS = "MLflow run, report, model version, newest request, revision"
# Files of a report that a browser shows.
SHOWN = {".html", ".json", ".js", ".css", ".svg", ".png", ".md"}

P = ParamSpec("P")
R = TypeVar("R")
_recorder: Recorder | None = None
_record: RunRecord | None = None
# Figures of the tasks, until the stage's own are known, which they may repeat.
_task_figures: dict[str, float] = {}
# Why the stage at work failed; the server has words of its own for a run that nobody resumed.
_reason = ""


def recorder() -> Recorder:
    """The MLflow run of the stage at work.

    Raises:
        RuntimeError: No stage is at work.
    """
    if _recorder is None:
        raise RuntimeError("no stage is at work; call this inside a stage's flow")
    return _recorder


def task(function: Callable[P, R], *, retries: int = 0) -> Callable[P, R]:
    """A plain function as a Prefect task whose figures and seconds are logged to the stage's MLflow run at its end.

    Figures are those of a returned mapping of numbers, or of the result's ``figures``. What an earlier task said under
    the same name, or the stage's own figures say, is not logged again; nor are seconds below `SHOWN_S`.

    Args:
        function: The work; its name is the task's.
        retries: How often a failure is tried again; only for work that talks to a network.
    """

    @functools.wraps(function)
    def measured(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        result = function(*args, **kwargs)
        note_figures(function.__name__, figures_of(result), time.monotonic() - began)
        return result

    made: Any = prefect_task(
        name=function.__name__,
        task_run_name=function.__name__,
        description=(inspect.getdoc(function) or "").split("\n")[0],
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_condition_fn=is_not_expected,
    )
    observed: Callable[P, R] = made(measured)
    return observed


def is_not_expected(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure is worth another attempt: not one the user has to mend."""
    return not isinstance(state.data, PipelineError)


def figures_of(result: Any) -> dict[str, float]:
    """The numbers of a result's figures; a mapping with texts or lists is something else, such as a manifest."""
    found = getattr(result, "figures", result)
    if not isinstance(found, Mapping) or not all(isinstance(v, int | float | None) for v in found.values()):
        return {}
    return {key: value for key, value in found.items() if value is not None and not isinstance(value, bool)}


def note_figures(task_name: str, figures: Mapping[str, float], seconds: float) -> None:
    """Keep the figures of a task until the stage's own are known."""
    known = {key.partition(".")[2]: value for key, value in _task_figures.items()}
    _task_figures.update({f"{task_name}.{key}": v for key, v in figures.items() if known.get(key) != v})
    if seconds >= SHOWN_S:
        _task_figures[f"{task_name}.seconds"] = seconds


def log_task_figures(own: Mapping[str, float]) -> None:
    """Log the figures of the tasks, without those that the stage's own repeat, be it under another name."""
    recorder().figures({key: value for key, value in _task_figures.items() if not repeats(own, key, value)})
    _task_figures.clear()


def repeats(own: Mapping[str, float], key: str, value: float) -> bool:
    """Whether a task's figure is one of the stage's own, or a rounded one; equal counts may be of something else."""
    if own.get(key.partition(".")[2]) == value:
        return True
    decimals = len(repr(value).partition(".")[2])
    return value % 1 != 0 and any(value == other or round(other, max(decimals, 3)) == value for other in own.values())


def stage(function: Callable[[Params], None]) -> Flow[[Params], None]:
    """A function over `Params` as a stage: its Prefect flow, recorded and shown where ops look."""
    name = function.__name__

    # Prefect makes a JSON schema of what a flow's parameters are annotated with; of all params it takes half a second.
    def body(params: Any) -> Any:
        global _reason
        try:
            function(params)
        except PipelineError as error:
            _reason = str(error)
            if is_verbose():
                traceback.print_exception(error)
            return Failed(message=str(error), data=error)
        except OSError as error:
            if full := full_disk(error):
                return Failed(message=full, data=error)
            raise
        show_report(name)
        return None

    body.__name__, body.__qualname__, body.__module__ = name, name, function.__module__
    made: Any = flow(
        name=name,
        flow_run_name=name,
        description=inspect.getdoc(sys.modules[function.__module__]) or inspect.getdoc(function),
        validate_parameters=False,
        persist_result=False,
        on_running=[note_run],
    )
    observed: Flow[[Params], None] = made(body)
    return observed


def show_report(name: str) -> None:
    """Log the stage's figures and report to MLflow, and put the figures, with links, into the Prefect UI."""
    figures = figures_of(read_json(artifacts.metrics(name)))
    log_task_figures(figures)
    recorder().figures(figures)
    recorder().headline(*read_headline(name))
    keep_report(name)
    rows = [{"figure": key, "value": value} for key, value in figures.items()]
    key = name.replace("_", "-")
    create_table_artifact(key=f"{key}-figures", table=rows, description=f"Figures of {name}")
    if _record is not None and addresses.has_reports():
        report = addresses.report_page(_record.flow_run, name)
        create_link_artifact(key=f"{key}-report", link=report, link_text=f"Report of {name}")
        links = addresses.list_links(_record.flow_run, name, _record.commit)
        create_markdown_artifact(key=f"{key}-links", markdown=links, description=LINKS)


def keep_report(name: str) -> None:
    """Keep with the MLflow run what the stage's report consists of, so that an old run shows its own."""
    from tasks.pages.page import fill_run

    folder = artifacts.report(name).parent
    facts = describe_run(_record, describe_subject(name)) if _record else []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in SHOWN:
            text = fill_run(path.read_text(encoding="utf-8"), facts) if path.suffix == ".html" else None
            recorder().artifact(path, (Path("report") / path.parent.relative_to(folder)).as_posix(), text)


def run(flow_: Flow[[Params], None]) -> None:
    """Run a stage in this process and exit: 0 when its outs are written, 1 when it failed, 128 and the signal's number
    when it was stopped."""
    listen(STAGE_GRACE_S, lambda number: leave_message("stopped", str(number)))
    try:
        code = run_stage(flow_)
    except Stopped as stopped:
        end(list_below(os.getpid()), 1.0)
        if not os.environ.get(MESSAGES):
            print(f"{flow_.name}: {stopped}; the next run goes on from there", file=sys.stderr)
        code = stopped.exit_code
    sys.exit(code)


def run_stage(flow_: Flow[[Params], None]) -> int:
    """Run a stage in this process; the exit code.

    Raises:
        Stopped: A signal asked it to end, or the process that runs DVC around it has ended.
    """
    name = flow_.name
    log_to_terminal()
    os.chdir(configure())
    leave_message("began", name)
    owner = owner_above()
    if owner[0] != os.getpid():
        if not has_process(owner):
            raise Stopped(signal.SIGTERM)
        end_with(owner)
    try:
        params = read_params()
        with prefect_at(ensure_server(owner)), leading(owner):
            return run_observed(flow_, params, owner)
    except PipelineError as error:
        return report_failure(str(error))
    except (httpx.HTTPError, PrefectException) as error:
        return report_failure(f"Prefect did not take the run of {name} ({error}); start its server and run again")


def run_observed(flow_: Flow[[Params], None], params: Params, owner: ProcessMark) -> int:
    global _recorder, _record
    name = flow_.name
    flow_run = str((made := create_run(flow_, params)).id)
    pipeline = os.environ.get(PIPELINE)
    key = pipeline or f"dvc-{show_mark(owner)}"
    _record = begin_record(name, flow_run, key)
    _recorder = Recorder(name, key, first_tags(params, _record), owner, flow_run)
    _recorder.headline({}, {}, pipeline_tags(key))
    _recorder.params(flatten(getattr(params, name).model_dump(mode="json")))
    status, reason = "FAILED", ""
    finished_work = FinishedWork(name)
    try:
        state: Any = run_flow(flow_, flow_run=made, parameters={"params": params}, return_type="state")
        if state.is_completed():
            status = "FINISHED"
        else:
            reason = _reason or state.message or "failed"
    except (httpx.HTTPError, PrefectException) as error:
        if finished_work.is_complete():
            logger.warning(
                "%s is done, but the Prefect server went away (%s) and may show it as running",
                name, type(error).__name__,
            )  # fmt: skip
            status = "FINISHED"
        else:
            reason = (
                f"the Prefect server went away while {name} was at work ({type(error).__name__}); "
                "start it and run again, finished stages are kept"
            )
    except Stopped:
        end_observed("KILLED", "stopped")
        raise
    code = report_failure(reason) if reason else 0
    end_observed(status, reason)
    if not pipeline:  # a pipeline says it at its end
        warn_unanswered()
    write_overview()
    return code


def end_observed(status: str, reason: str) -> None:
    """End the run in MLflow, and its record."""
    if _record is None:
        return
    ended = end_record(_record, status, reason)
    log_task_figures({})
    recorder().tags({f"heptune.{key}": value for key, value in ended.about.items()})
    if reason:
        failure = {"heptune.failed": _record.stage, "heptune.failure": reason}
        recorder().tags({"heptune.failure": reason})
        recorder().headline({}, {}, failure)
    recorder().finish(status, lineage.describe_written(_record.stage))


class FinishedWork:
    """Whether a stage wrote its figures, its last product, since this object was made."""

    def __init__(self, name: str) -> None:
        self.path = artifacts.metrics(name)
        self.before = self._stamp()

    def is_complete(self) -> bool:
        return self._stamp() not in (None, self.before)

    def _stamp(self) -> tuple[int, int] | None:
        if not self.path.is_file():
            return None
        status = self.path.stat()
        return status.st_ino, status.st_mtime_ns


def create_run(flow_: Flow[[Params], None], params: Params) -> Any:
    """A flow run, below the pipeline's task run when a pipeline started this process."""
    section = getattr(params, flow_.name).model_dump(mode="json")
    with get_client(sync_client=True) as client:
        return client.create_flow_run(
            flow_,
            name=flow_.name,
            parameters={"params": section},
            parent_task_run_id=os.environ.get(PARENT) or None,  # type: ignore[arg-type]
            tags=["heptune", flow_.name],
        )


def first_tags(params: Params, record: RunRecord) -> dict[str, str]:
    """What a run is known by, and links from it; ``mlflow.*`` are shown at the top of its page."""
    flow_run, stage_name = record.flow_run, record.stage
    links = [f"[Prefect run]({addresses.flow_run_page(flow_run)})"]
    if addresses.has_reports():
        links.append(f"[Report]({addresses.report_page(flow_run, stage_name)})")
        links.append(f"[Data, release, requests]({addresses.run_page(flow_run)})")
    tags = {
        "heptune.stage": stage_name,
        "heptune.git_commit": record.commit,
        "heptune.params": lineage.section_hash(params, stage_name),
        "heptune.prefect_flow_run": flow_run,
        "heptune.dvc_experiment": record.experiment,
        "mlflow.note.content": " · ".join(links),
        "mlflow.source.git.commit": record.commit.removesuffix("+changes").removesuffix("none"),
        "mlflow.source.name": f"flows/{stage_name}.py",
        "mlflow.source.type": "LOCAL",
    }
    return {key: value for key, value in tags.items() if value}


def pipeline_tags(key: str) -> dict[str, str]:
    """Links from the pipeline's MLflow run."""
    links = [] if key.startswith("dvc-") else [f"[Prefect run]({addresses.flow_run_page(key)})"]
    if addresses.has_reports():
        links.append(f"[Its stages, with reports and releases]({addresses.pipeline_page(key)})")
    return {"mlflow.note.content": " · ".join(links)} if links else {}


def report_failure(reason: str) -> int:
    """Say once why the stage failed: to the pipeline above, which says it on, or else on the terminal."""
    if not leave_message("failure", reason):
        print(reason, file=sys.stderr)
    return 1


def leave_message(name: str, text: str) -> bool:
    """Leave a message for the pipeline that started this stage; whether one did."""
    folder = os.environ.get(MESSAGES)
    if not folder:
        return False
    with suppress(FileNotFoundError):  # the pipeline was stopped too, and reads no more messages
        Path(folder, name).write_text(text, encoding="utf-8")
    return True
