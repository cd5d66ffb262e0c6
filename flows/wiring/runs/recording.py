"""What MLflow is told, written first where it outlives the process: one file of entries for each run.

A stage never imports MLflow. It appends entries, one JSON object a line, to its file in ``.heptune/unsent/``;
`flows.wiring.runs.sending`, one process a checkout, forwards them and deletes the file once MLflow has all of it. Kinds
of entries, in the order of a run:

* ``create``: name, key of the pipeline, tags, time; who writes, and the process that runs DVC;
* ``params``, ``metrics``, ``tags``, ``inputs``, ``artifact``, ``table``: what is recorded of the run or, with
  ``pipeline``, of the pipeline's run above it;
* ``finish``: status, time, and what the stage's figures and ``dvc.lock`` were at that moment;
* ``end``: nothing follows. For a stage the sender writes it, behind the hashes that DVC left in ``dvc.lock``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.wiring import artifacts
from flows.wiring.processes import ProcessMark, has_process, mark_process
from flows.wiring.settings import lasting_environment

logger = logging.getLogger(__name__)

UNSENT = artifacts.STATE / "unsent"
SENDER = artifacts.STATE / "sender"
SENDER_LOCK = SENDER / "lock"
SENDER_PID = SENDER / "pid"
SENDER_LOG = SENDER / "log"
# There while MLflow does not answer: its address, why, and since when.
UNANSWERED = SENDER / "unanswered.json"
# The same, once the user was told.
TOLD = SENDER / "told.json"
# For the stages: the key of the pipeline's run, and why it runs.
PIPELINE = "HEPTUNE_PIPELINE"
REASON = "HEPTUNE_REASON"
LONGEST_PARAM = 6000
POLL_S = 0.1

Entry = dict[str, Any]
# A process on another machine cannot be looked at; it counts as ended when its file has not grown for so long.
SILENCE_S = 24 * 3600.0


class Recorder:
    """One MLflow run, appended to its file at once.

    What cannot be written (a full disk) is reported once and does not stop the work.

    Args:
        name: Name of the run, the stage's.
        pipeline: Key of the pipeline run it belongs to; runs with one key share one parent. None: no parent.
        tags: Tags of the run, known from the start.
        owner: The process that runs DVC around this stage, whose hashes are added from ``dvc.lock``; None: no stage.
        flow_run: The stage's Prefect flow run, beside whose record the sender notes what MLflow calls this run.
        whole: Record on the pipeline's own run instead of one below it; its name is then ``title``'s.
    """

    def __init__(
        self,
        name: str,
        pipeline: str | None,
        tags: Mapping[str, str],
        owner: ProcessMark | None = None,
        flow_run: str = "",
        whole: bool = False,
    ) -> None:
        stem = f"{_now_ms()}-{re.sub('[^A-Za-z0-9_]+', '-', name)}-{uuid.uuid4().hex[:8]}"
        self.path = (UNSENT / f"{stem}.jsonl").resolve()
        self._owner = owner
        self._descriptor: int | None = None
        self._failed = False
        self._lock = threading.Lock()
        self._curves: set[str] = set()
        self._append(
            "create",
            name=name,
            pipeline=pipeline,
            title=title(),
            reason=os.environ.get(REASON, ""),
            flow_run=flow_run,
            prefect=os.environ.get("PREFECT_API_URL", ""),
            whole=whole,
            tags=dict(tags),
            time=_now_ms(),
            uri=os.environ["MLFLOW_TRACKING_URI"],
            writer=mark_process(os.getpid()),
            owner=owner,
        )
        ensure_sender()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record a point of each curve."""
        self._curves |= values.keys()
        self._append("metrics", step=step, values={k: float(v) for k, v in values.items()}, time=_now_ms())

    def figures(self, values: Mapping[str, float]) -> None:
        """Record figures of the whole run; one whose name is a curve's is left out, for it would be a point of that."""
        values = {key: float(value) for key, value in values.items() if key not in self._curves}
        if values:
            self._append("metrics", step=0, values=values, time=_now_ms())

    def params(self, values: Mapping[str, Any]) -> None:
        self._append("params", values=_as_params(values))

    def tags(self, values: Mapping[str, str]) -> None:
        self._append("tags", values=dict(values))

    def headline(self, params: Mapping[str, Any], figures: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Record what heads the pipeline's run; what it has already is not recorded again."""
        self._append("params", values=_as_params(params), pipeline=True)
        values = {key: float(value) for key, value in figures.items()}
        self._append("metrics", step=0, values=values, time=_now_ms(), pipeline=True)
        self._append("tags", values=dict(tags), pipeline=True)

    def artifact(self, path: Path, folder: str = "", text: str | None = None) -> None:
        """Keep a file with the run, copied now, since it may change before it is sent.

        Args:
            path: The file.
            folder: Folder among the run's artifacts; the top one by default.
            text: What is kept under its name instead of what it holds.
        """
        if path.is_file():
            self._keep(path.name, folder, path if text is None else text, "artifact")

    def _keep(self, name: str, folder: str, content: Path | str, kind: str) -> None:
        copy = copies_of(self.path) / folder / name
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, copy)
            else:
                copy.write_text(content, encoding="utf-8")
        except OSError as error:
            self._report_loss(error)
            return
        self._append(kind, path=str(copy.resolve()), folder=folder)

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a table with the run, where MLflow's pages show and compare it.

        Args:
            name: Its file, ending in ``.json``.
            columns: Name to as many values as the others have; without any there is no table.
        """
        if not columns:
            return
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        text = json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False)
        self._keep(name, "", text, "table")

    def keep_newest(self, artifact: str, runs: int) -> None:
        """Keep a bulky artifact of this stage with the newest runs only; older ones lose it, and nothing else.

        Args:
            artifact: Its path among the artifacts of a run.
            runs: How many runs keep it, this one included.
        """
        self._append("keep_newest", artifact=artifact, runs=runs)

    def finish(self, status: str, written: Mapping[str, str] | None = None) -> None:
        """End the run as ``FINISHED``, ``FAILED`` or ``KILLED``.

        Args:
            status: MLflow's name for how it went.
            written: `flows.wiring.versions.lineage.describe_written` of the stage, by which its entry in ``dvc.lock``
                is known.
        """
        self._append("finish", status=status, time=_now_ms(), written=dict(written or {}))
        if self._owner is None:
            self._append("end")
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, **values}) + "\n"
        with self._lock:
            try:
                if self._descriptor is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                # A line that was cut off must not swallow the one after it.
                os.write(self._descriptor, (b"\n" if self._failed else b"") + line.encode())
            except OSError as error:
                self._report_loss(error)

    def _report_loss(self, error: OSError) -> None:
        if not self._failed:
            logger.warning("%s: cannot be written (%s), so MLflow will lack entries of this run", self.path, error)
        self._failed = True


def title() -> str:
    """Name of a pipeline's run: why it runs, and when it began."""
    experiment = os.environ.get("DVC_EXP_NAME", "")
    reason = os.environ.get(REASON) or (f"dvc exp run {experiment}" if experiment else "dvc repro")
    return f"{reason}, {time.strftime('%Y-%m-%d %H:%M')}"


def is_alive(mark: ProcessMark, path: Path) -> bool:
    """Whether the process behind a file of entries is still there, and no zombie."""
    if mark[2] != socket.gethostname():
        return time.time() - path.stat().st_mtime < SILENCE_S
    return has_process(mark)


def copies_of(path: Path) -> Path:
    """Where the artifacts of a file of entries are kept until they are sent."""
    return SENDER / "files" / path.stem


def ensure_sender() -> None:
    """Start the checkout's sender unless one is at work."""
    try:
        SENDER.mkdir(parents=True, exist_ok=True)
        with FileLock(SENDER_LOCK, timeout=0):
            warn_unanswered()
            UNANSWERED.unlink(missing_ok=True)
        with SENDER_LOG.open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "flows.wiring.runs.sending"],
                env=lasting_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except Timeout:
        return
    except OSError as error:
        logger.warning("%s: the sender to MLflow was not started (%s); the next run sends its entries", SENDER, error)


def wait_until_sent(timeout_s: float) -> bool:
    """Return once MLflow has everything that ended runs of this checkout recorded.

    Runs of other processes that are still at work are not waited for.

    Args:
        timeout_s: Wait at most so long, seconds.

    Returns:
        Whether MLflow has it; False when the time is up or MLflow does not answer.
    """
    deadline = time.monotonic() + timeout_s
    first = True
    while any(not is_at_work(path) for path in UNSENT.glob("*.jsonl")):
        # A sender that ends because MLflow does not answer leaves word of it; then another would not do better.
        if not first and (UNANSWERED.is_file() or time.monotonic() > deadline):
            return False
        ensure_sender()
        first = False
        time.sleep(POLL_S)
    return True


def warn_unanswered() -> None:
    """Say that MLflow does not answer, once each time that it went away."""
    try:
        text = UNANSWERED.read_text(encoding="utf-8")
        uri = json.loads(text)["uri"]
    except (FileNotFoundError, json.JSONDecodeError):
        return
    if TOLD.is_file() and TOLD.read_text(encoding="utf-8") == text:
        return
    TOLD.write_text(text, encoding="utf-8")
    logger.warning(
        "the MLflow server at %s did not answer; its entries are kept in %s and sent by the next run", uri, UNSENT
    )


def is_at_work(path: Path) -> bool:
    """Whether another process is still writing a file of entries."""
    try:
        with path.open("rb") as stream:
            writer: ProcessMark = json.loads(stream.readline())["writer"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
    return writer[0] != os.getpid() and is_alive(writer, path)


def _as_params(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:LONGEST_PARAM] for key, value in values.items()}


def _now_ms() -> int:
    return int(time.time() * 1000)
