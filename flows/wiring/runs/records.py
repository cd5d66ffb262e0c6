"""What identifies a run of a stage, kept beside the work: a small JSON file in ``.heptune/runs/<stage>/``.

A stage's outs hold no time and no run id, so that the same work gives the same bytes; whoever shows a page finds here
which run wrote it, when, at which commit, from which data. The sender to MLflow adds a file of its own, with the
identity of the run there and the hashes that DVC gave to what was read and written.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import Any

from flows.wiring import artifacts
from flows.wiring.processes import has_process, mark_process, read_mark, show_mark
from flows.wiring.runs.releases import name_release
from flows.wiring.versions.lineage import git_commit
from tasks.contracts.manifest import find_json

logger = logging.getLogger(__name__)

RUNS = artifacts.STATE / "runs"
# Characters of a reason in the header of a page; the page of the run has all of it.
LONGEST_NAME = 72


@dataclass(frozen=True)
class RunRecord:
    """A run of a stage.

    Attributes:
        stage: Name of the stage.
        flow_run: Id of the stage's Prefect flow run.
        pipeline: Key of the pipeline's run: the id of the Prefect flow run above, or ``dvc-...`` below ``dvc repro``.
        reason: Why the pipeline ran; empty below ``dvc repro``.
        began: Seconds since the epoch.
        commit: Git commit of the checkout, with ``+changes`` where files differed from it, or ``none``.
        experiment: Name of the DVC experiment (``dvc exp run``), or empty.
        ended: Seconds since the epoch; None while it runs, or where it was killed without a word.
        status: ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``; as written, see `state`.
        message: Why it failed, in one line.
        process: Mark of the process that runs it.
        page: SHA-256 of the page that it wrote, or empty.
        about: What the page is about, as far as it applies: ``data``, ``champion``, ``release``, ``window`` and
            ``answered_by`` (the release that answered the window), each a hash.
    """

    stage: str
    flow_run: str
    pipeline: str
    reason: str
    began: float
    commit: str
    experiment: str = ""
    ended: float | None = None
    status: str = "RUNNING"
    message: str = ""
    process: str = ""
    page: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return RUNS / self.stage / f"{int(self.began * 1000)}-{self.flow_run}.json"

    @property
    def state(self) -> str:
        """The status, ``KILLED`` too where the process of a running stage is gone; another machine's is not seen."""
        mark = read_mark(self.process)
        if self.status == "RUNNING" and mark and mark[2] == socket.gethostname() and not has_process(mark):
            return "KILLED"
        return self.status

    def write(self, root: Path = Path()) -> None:
        """Write the record; a disk that refuses it is reported and does not stop the work."""
        _write(root / self.path, asdict(self))


@dataclass(frozen=True)
class MlflowRun:
    """What MLflow calls a run of a stage.

    Attributes:
        uri: Tracking URI.
        run: Id of the run.
        parent: Id of the pipeline's run, or empty.
        experiment: Id of the experiment.
        artifacts: URI of the run's artifacts.
        deps: MD5 by path of what the stage read, as in ``dvc.lock``.
        outs: MD5 by path of what it wrote.
    """

    uri: str
    run: str
    parent: str
    experiment: str
    artifacts: str
    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)


def begin_record(stage: str, flow_run: str, pipeline: str) -> RunRecord:
    """Write the record of a run that begins."""
    record = RunRecord(
        stage=stage,
        flow_run=flow_run,
        pipeline=pipeline,
        reason=os.environ.get("HEPTUNE_REASON", ""),
        began=time.time(),
        commit=git_commit(),
        experiment=os.environ.get("DVC_EXP_NAME", ""),
        process=show_mark(mark_process(os.getpid())),
    )
    record.write()
    return record


def end_record(record: RunRecord, status: str, message: str = "") -> RunRecord:
    """Complete the record of a run that ended.

    Args:
        record: As `begin_record` wrote it.
        status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        message: Why it failed, in one line.
    """
    finished = status == "FINISHED"
    ended = replace(
        record,
        ended=time.time(),
        status=status,
        message=message,
        page=hash_page(record.stage) if finished else "",
        about=describe_subject(record.stage) if finished else {},
    )
    ended.write()
    return ended


def hash_page(stage: str, root: Path = Path()) -> str:
    """SHA-256 of a stage's page, or empty where it has none."""
    from tasks.contracts.manifest import hash_file

    page = root / artifacts.report(stage)
    return hash_file(page) if page.is_file() else ""


def describe_subject(stage: str) -> dict[str, str]:
    """Hashes of what the page of a stage is about."""
    from tasks.contracts.manifest import hash_file

    if stage == "monitoring":
        window = find_json(artifacts.DRIFT_VERDICT).get("window")
        found = {"window": window, "answered_by": _release_of_window()}
    else:
        prepared = artifacts.PREPARED / "manifest.json"
        found = {"data": hash_file(prepared) if prepared.is_file() else None}
    if stage == "evaluation":
        found["champion"] = find_json(artifacts.CHAMPION).get("release")
    if stage == "deployment":
        found["release"] = find_json(artifacts.RELEASE / "manifest.json").get("release")
    return {key: str(value) for key, value in found.items() if value}


def describe_run(record: RunRecord, about: Mapping[str, str], root: Path = Path()) -> list[tuple[str, str]]:
    """Names and values that say which run wrote a page, and what the page is about: releases with their version.

    Args:
        record: The run.
        about: As `RunRecord.about` has it; the record of a run that has not ended has none yet.
        root: The checkout.
    """
    commit, _, changes = record.commit.partition("+")
    facts = [
        ("made", show_time(record.ended or record.began)),
        ("run", f"{shorten(name_run(record), LONGEST_NAME, placeholder='…')} ({record.flow_run[:8]})"),
        ("commit", commit[:12] + (" with changes" if changes else "")),
    ]
    if record.ended:
        facts.append(("took", show_duration(record.ended - record.began)))
    for key in ("data", "window"):
        if about.get(key):
            facts.append((key, about[key][:12]))
    names = {"release": "release", "champion": "compared with champion", "answered_by": "answered by"}
    releases = root / artifacts.RELEASES
    return facts + [(name, name_release(releases, about[key])) for key, name in names.items() if about.get(key)]


def name_run(record: RunRecord) -> str:
    """Why a run was made, in the words of who started it."""
    return record.reason or "dvc repro"


def show_time(seconds: float) -> str:
    """A time as pages have it, wherever they are read."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def show_duration(seconds: float) -> str:
    """A duration as people say it: 8 s, 4 min 12 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _release_of_window() -> str | None:
    """The release that answered the frozen window; an empty window is the one of its baseline."""
    from pyarrow.parquet import read_table

    for path in (artifacts.WINDOW, artifacts.BASELINE):
        if path.is_file() and (rows := read_table(path, columns=["release"])).num_rows:
            return str(rows["release"][0])
    return None


def read_records(stage: str = "*", root: Path = Path()) -> Iterator[RunRecord]:
    """Records, of one stage or of all, the newest first."""
    paths = (root / RUNS).glob(f"{stage}/*.json")
    found = [path for path in paths if not path.name.endswith(".mlflow.json")]
    for path in sorted(found, key=lambda path: path.name, reverse=True):
        if (values := find_json(path)) and (record := _parse(values)):
            yield record


def record_of_page(stage: str, root: Path = Path()) -> RunRecord | None:
    """The newest run that wrote the page that a stage has now, also where DVC restored it; None where none is known."""
    if not (page := hash_page(stage, root)):
        return None
    return next((record for record in read_records(stage, root) if record.page == page), None)


def find_record(flow_run: str, root: Path = Path()) -> RunRecord | None:
    """The record of a stage's Prefect flow run."""
    if not flow_run or set(flow_run) - set("0123456789abcdef-"):
        return None
    paths = (root / RUNS).glob(f"*/*-{flow_run}.json")
    return next((record for path in paths if (values := find_json(path)) and (record := _parse(values))), None)


def note_mlflow(stage: str, flow_run: str, known: MlflowRun) -> None:
    """Keep what MLflow calls the run of a flow run, beside its record."""
    for path in (RUNS / stage).glob(f"*-{flow_run}.json"):
        _write(path.with_suffix(".mlflow.json"), asdict(known))


def mlflow_of(record: RunRecord, root: Path = Path()) -> MlflowRun | None:
    """What MLflow calls a run; None until its sender has told MLflow of it."""
    values = find_json(root / record.path.with_suffix(".mlflow.json"))
    try:
        return MlflowRun(**values) if values else None
    except TypeError:  # written by another version
        return None


def _parse(values: Mapping[str, Any]) -> RunRecord | None:
    try:
        return RunRecord(**values)
    except TypeError:  # written by another version
        return None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(values, indent=1), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        logger.warning("%s: cannot be written (%s), so links from and to this run will be missing", path, error)
