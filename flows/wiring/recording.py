"""What MLflow is told about a stage, off the path of the work.

A thread of its own imports MLflow, creates the runs and writes figures in batches; the work only puts
entries into a queue. When the tracking server does not answer, the entries are kept in
``.heptune/unsent/`` and sent when the next stage records.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from flows.wiring import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "heptune"
PIPELINE_TAG = "heptune.pipeline"
UNSENT = artifacts.STATE / "unsent"
PARENTS = artifacts.STATE / "mlflow.lock"
BATCH = 500
Entry = dict[str, Any]


class Recorder:
    """One MLflow run, written by a background thread.

    Args:
        name: Name of the run, the stage's.
        pipeline: Key of the pipeline run it belongs to; runs with one key share one parent.
        tags: Tags of the run, known from the start.
    """

    def __init__(self, name: str, pipeline: str, tags: Mapping[str, str]) -> None:
        self.name, self.pipeline = name, pipeline
        self.run_id: str | None = None
        self._entries: queue.Queue[Entry] = queue.Queue()
        self._lost: Path | None = None
        self._put("create", tags=dict(tags), time=_now_ms())
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures at a step; returns at once."""
        self._put("metrics", step=step, values={k: float(v) for k, v in values.items()}, time=_now_ms())

    def params(self, values: Mapping[str, Any]) -> None:
        self._put("params", values={key: str(value)[:6000] for key, value in values.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        self._put("tags", values=dict(values))

    def inputs(self, digests: Mapping[str, str]) -> None:
        """Log data sets: path to DVC hash."""
        self._put("inputs", values=dict(digests))

    def artifact(self, path: Path) -> None:
        """Keep a copy of a small file with the run."""
        if path.is_file():
            self._put("artifact", path=str(path.resolve()))

    def flush(self) -> None:
        """Return once everything so far is stored, at the tracking server or in ``.heptune/unsent``."""
        self._entries.join()

    def finish(self, status: str) -> None:
        """End the run as ``FINISHED`` or ``FAILED`` and wait for the last entry."""
        self._put("finish", status=status, time=_now_ms())
        self.flush()
        if self._lost:
            logger.warning(
                "the MLflow server at %s did not answer; its entries are kept in %s and sent by the next run",
                os.environ["MLFLOW_TRACKING_URI"],
                self._lost,
            )

    def _put(self, kind: str, **entry: Any) -> None:
        self._entries.put({"kind": kind, **entry})

    def _work(self) -> None:
        sender: Sender | None = None
        while True:
            batch = [self._entries.get()]
            while len(batch) < BATCH and not self._entries.empty():
                batch.append(self._entries.get())
            try:
                if self._lost is None:
                    sender = sender or Sender(self.name, self.pipeline)
                    sender.send(batch)
                    self.run_id = sender.run_id
                else:
                    self._keep(batch)
            except Exception as error:
                logger.debug("recording failed", exc_info=error)
                done = sender.run_id if sender else None
                self._lost = UNSENT / f"{self.name}-{uuid.uuid4().hex[:12]}.jsonl"
                self._keep([{"kind": "open", "name": self.name, "pipeline": self.pipeline, "run": done}, *batch])
            finally:
                for _ in batch:
                    self._entries.task_done()

    def _keep(self, batch: list[Entry]) -> None:
        assert self._lost is not None
        self._lost.parent.mkdir(parents=True, exist_ok=True)
        with self._lost.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(entry) + "\n" for entry in batch)


class Sender:
    """Applies entries to MLflow. Applying the same entry twice does no harm."""

    def __init__(self, name: str, pipeline: str, run_id: str | None = None) -> None:
        from mlflow import MlflowClient

        self.name, self.pipeline, self.run_id = name, pipeline, run_id
        self.client = MlflowClient()
        self.experiment = experiment_id(self.client)

    def send(self, batch: list[Entry]) -> None:
        from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

        metrics: list[Any] = []
        for entry in batch:
            if entry["kind"] == "metrics":
                metrics += [Metric(k, v, entry["time"], entry["step"]) for k, v in entry["values"].items()]
                continue
            if entry["kind"] == "create":
                if self.run_id is None:
                    self.run_id = self._create(entry["tags"], entry["time"])
                continue
            run_id = self._run()
            if entry["kind"] == "params":
                pairs = [Param(key, value) for key, value in entry["values"].items()]
                for start in range(0, len(pairs), 100):
                    self.client.log_batch(run_id, params=pairs[start : start + 100])
            elif entry["kind"] == "tags":
                self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in entry["values"].items()])
            elif entry["kind"] == "inputs":
                sets = [
                    DatasetInput(Dataset(path, digest, "local", json.dumps({"uri": path})), [])
                    for path, digest in entry["values"].items()
                ]
                self.client.log_inputs(run_id, sets)
            elif entry["kind"] == "artifact" and Path(entry["path"]).is_file():
                self.client.log_artifact(run_id, entry["path"])
            elif entry["kind"] == "finish":
                self._log(metrics)
                metrics = []
                self.client.set_terminated(run_id, entry["status"], entry["time"])
                self._close_parent(entry["status"], entry["time"])
        self._log(metrics)

    def _log(self, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self._run(), metrics=metrics[start : start + 1000])

    def _run(self) -> str:
        if self.run_id is None:
            raise RuntimeError("an entry came before the run was created")
        return self.run_id

    def _create(self, tags: dict[str, str], time_ms: int) -> str:
        parent = self._parent(time_ms)
        tags = {**tags, PIPELINE_TAG: self.pipeline, "mlflow.parentRunId": parent}
        run = self.client.create_run(self.experiment, time_ms, tags, self.name)
        return str(run.info.run_id)

    def _parent(self, time_ms: int) -> str:
        with FileLock(PARENTS):
            if found := self._find_parent():
                return found
            run = self.client.create_run(
                self.experiment,
                time_ms,
                {PIPELINE_TAG: self.pipeline, "heptune.kind": "pipeline", **reason_tag()},
                "pipeline",
            )
            return str(run.info.run_id)

    def _find_parent(self) -> str | None:
        runs = self.client.search_runs(
            [self.experiment],
            f"tags.`{PIPELINE_TAG}` = '{self.pipeline}' and tags.`heptune.kind` = 'pipeline'",
            max_results=1,
        )
        return str(runs[0].info.run_id) if runs else None

    def _close_parent(self, status: str, time_ms: int) -> None:
        if parent := self._find_parent():
            self.client.set_terminated(parent, status, time_ms)


def reason_tag() -> dict[str, str]:
    reason = os.environ.get("HEPTUNE_REASON")
    return {"heptune.reason": reason} if reason else {}


def experiment_id(client: MlflowClient) -> str:
    """The experiment of this project, created on first use with its artifacts below ``.heptune/``."""
    with FileLock(PARENTS):
        if found := client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        local = os.environ["MLFLOW_TRACKING_URI"].startswith("sqlite")
        place = (artifacts.STATE / "mlflow-artifacts").resolve().as_uri() if local else None
        return client.create_experiment(EXPERIMENT, artifact_location=place)


def send_unsent() -> int:
    """Send what earlier runs could not; returns the number of files sent.

    A file that cannot be sent stays where it is.
    """
    sent = 0
    for path in sorted(UNSENT.glob("*.jsonl")):
        opening, *batch = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        try:
            Sender(opening["name"], opening["pipeline"], opening["run"]).send(batch)
        except Exception as error:  # noqa: BLE001 - the file stays for the next attempt
            logger.warning("%s: still cannot be sent to MLflow (%s)", path, type(error).__name__)
            return sent
        path.unlink()
        sent += 1
    return sent


def _now_ms() -> int:
    return int(time.time() * 1000)
