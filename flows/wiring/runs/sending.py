"""The sender: one process a checkout that forwards files of entries to MLflow.

`flows.wiring.runs.recording` starts it when a run begins; it ends by itself when nothing is left to send. Killed, it is
followed by the next, which goes on at the offset that was noted; applying an entry twice does no harm. While MLflow
does not answer, entries stay where they are. An entry that MLflow refuses is set aside with the reason in
``.heptune/refused/`` and holds up no other.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from flows.wiring import artifacts
from flows.wiring.runs.addresses import has_reports
from flows.wiring.runs.entry_file import EntryFile, parse, settle
from flows.wiring.runs.mlflow_entries import as_metrics, escape, log_entry, log_metrics
from flows.wiring.runs.prefect_links import link_to_mlflow
from flows.wiring.runs.recording import (
    SENDER_LOCK,
    SENDER_PID,
    UNANSWERED,
    UNSENT,
    Entry,
    is_at_work,
)
from flows.wiring.runs.records import MlflowRun, note_mlflow
from flows.wiring.servers.server import has_users
from flows.wiring.settings import configure

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "heptune"
# MLflow's UI shows the runs of such an experiment, not traces of prompts.
KIND = {"mlflow.experimentKind": "custom_model_development"}
PIPELINE_TAG = "heptune.pipeline"
# Which pipeline a run is the whole of.
WHOLE_TAG = "heptune.pipeline_run"
ENTRIES_TAG = "heptune.entries"
EXPERIMENT_LOCK = artifacts.STATE / "mlflow.lock"
POLL_S = 0.2
LINGER_S = 10.0  # the stages of a pipeline follow one another sooner than that; without a pipeline there is no next
RETRY_S = 5.0
ATTEMPTS = 3
# MLflow's answers about the entry itself; any other failure is the server's.
REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
# Answers of a server that has too much to do: the entry is fine.
OVERLOADED = {"REQUEST_LIMIT_EXCEEDED", "TEMPORARILY_UNAVAILABLE"}


class UnansweredError(Exception):
    """MLflow does not answer."""


class RetryError(Exception):
    """MLflow answers, but failed at an entry; another attempt may succeed."""


class Sender:
    """Applies entries to MLflow, each file to the server that its run was recorded for.

    Args:
        uri: The server of the command that started this sender. Files that earlier commands left unsent go there too.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.files: dict[Path, EntryFile] = {}
        self.clients: dict[str, MlflowClient] = {}
        self.experiments: dict[str, str] = {}
        self.parents: dict[tuple[str, str], str] = {}
        self._left = {path for path in UNSENT.glob("*.jsonl") if not is_at_work(path)}

    def look(self) -> bool:
        """Notice new files and complete those of runs that ended; whether there are new ones."""
        paths = sorted(UNSENT.glob("*.jsonl"))
        new = [path for path in paths if path not in self.files]
        for path in new:
            self.files[path] = EntryFile(path, self.uri if path in self._left else None)
        for path in self.files.keys() - set(paths):
            del self.files[path]
        for file in self.files.values():
            file.scan()
            settle(file)
        return bool(new)

    def send_all(self) -> bool:
        """Forward what is new in every file; whether MLflow took all of it."""
        taken, away = True, dict[str, str]()
        for file in list(self.files.values()):
            if file.uri in away:
                continue
            try:
                self.send(file)
            except FileNotFoundError:  # deleted by hand
                continue
            except RetryError as error:
                logger.warning("%s: tried again: %s", file.path.name, error)
                taken = False
            except UnansweredError as error:
                logger.warning("%s does not answer: %s", file.uri, error)
                away[file.uri] = str(error)
        if away:
            uri, reason = next(iter(away.items()))
            if not UNANSWERED.is_file():
                word = {"uri": uri, "reason": reason, "since": time.time()}
                UNANSWERED.write_text(json.dumps(word), encoding="utf-8")
        else:
            UNANSWERED.unlink(missing_ok=True)
        return taken and not away

    def send(self, file: EntryFile) -> None:
        """Forward what is new in one file, and delete it when it is complete.

        Raises:
            UnansweredError: The server does not answer.
            RetryError: It answers, but failed at an entry.
        """
        while lines := file.read():
            entries = [entry for line, _ in lines if (entry := parse(line))]
            if entries:
                self.apply(file, entries)
            for line, _ in lines:
                if line.strip() and not parse(line):
                    file.set_aside(line.decode(errors="replace"), "no JSON object with a kind")
            file.offset, file.attempts = lines[-1][1], 0
            file.save()
        if file.is_complete():
            file.remove()
            del self.files[file.path]

    def apply(self, file: EntryFile, entries: Sequence[Entry]) -> None:
        """Tell MLflow entries; those that it refuses are found by halving, and set aside.

        Raises:
            UnansweredError: The server does not answer.
            RetryError: It answers, but failed at these entries.
        """
        try:
            self._apply(file, entries)
        except Exception as error:
            if not self._is_refusal(file, error):
                raise RetryError(_one_line(error)) from error
            halves = halve(entries)
            for half in halves:
                self.apply(file, half)
            if not halves:
                file.set_aside(entries[0], _one_line(error))

    def _is_refusal(self, file: EntryFile, error: Exception) -> bool:
        """Whether an entry is at fault; otherwise the server is, unless it fails again and again.

        Raises:
            UnansweredError: The server does not answer.
        """
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            return True
        if isinstance(error, TypeError | ValueError | LookupError | FileNotFoundError) and not isinstance(
            error, RequestException
        ):
            return True
        try:
            self._client(file.uri).search_experiments(max_results=1)
        except Exception as silence:
            raise UnansweredError(_one_line(silence)) from silence
        if isinstance(error, MlflowException) and error.error_code in OVERLOADED:
            return False
        file.attempts += 1
        file.save()
        return file.attempts > ATTEMPTS

    def _apply(self, file: EntryFile, entries: Sequence[Entry]) -> None:
        client, metrics = self._client(file.uri), list[Any]()
        for entry in entries:
            kind = entry["kind"]
            if kind == "create":
                self._create(file, entry)
                continue
            if file.run_id is None:
                raise ValueError("an entry came before the one that creates its run")
            if entry.get("pipeline"):
                self._head(file, entry)
            elif kind == "metrics":
                metrics += as_metrics(entry)
            elif kind == "finish":
                log_metrics(client, file.run_id, metrics)
                metrics = []
                client.set_terminated(file.run_id, entry["status"], entry["time"])
                if pipeline := file.created["pipeline"]:
                    client.set_terminated(self._parent(file.uri, pipeline), entry["status"], entry["time"])
            elif kind == "end":
                self._note(file)
            else:
                log_entry(client, file.run_id, entry)
        if metrics and file.run_id:
            log_metrics(client, file.run_id, metrics)

    def _head(self, file: EntryFile, entry: Entry) -> None:
        """Record an entry on the pipeline's run, without what that has already."""
        client, parent = self._client(file.uri), self._parent(file.uri, file.created["pipeline"])
        data = client.get_run(parent).data
        every: dict[str, Mapping[str, Any]] = {"params": data.params, "metrics": data.metrics, "tags": data.tags}
        known = every[entry["kind"]]
        values = {key: value for key, value in entry["values"].items() if known.get(escape(key)) != value}
        if entry["kind"] == "metrics":
            log_metrics(client, parent, as_metrics({**entry, "values": values}))
        else:
            log_entry(client, parent, {**entry, "values": values})

    def _note(self, file: EntryFile) -> None:
        """Keep what MLflow calls the run of a stage, beside the stage's own record."""
        created = file.created
        if not created.get("flow_run") or file.run_id is None:
            return
        info = self._client(file.uri).get_run(file.run_id).info
        deps, outs = file.hashes
        known = MlflowRun(
            uri=file.uri,
            run=file.run_id,
            parent=self._parent(file.uri, created["pipeline"]) if created["pipeline"] else "",
            experiment=str(info.experiment_id),
            artifacts=str(info.artifact_uri),
            deps=deps,
            outs=outs,
        )
        note_mlflow(created["name"], created["flow_run"], known)

    def _client(self, uri: str) -> MlflowClient:
        if uri not in self.clients:
            from mlflow import MlflowClient

            self.clients[uri] = MlflowClient(tracking_uri=uri)
        return self.clients[uri]

    def _experiment(self, uri: str) -> str:
        if uri not in self.experiments:
            self.experiments[uri] = experiment_id(self._client(uri))
        return self.experiments[uri]

    def _create(self, file: EntryFile, entry: Entry) -> None:
        """The run of a file, once: the one of an earlier attempt where that was cut off."""
        if file.run_id is not None:
            return
        client, experiment = self._client(file.uri), self._experiment(file.uri)
        if entry.get("whole"):
            file.run_id = self._parent(file.uri, entry["pipeline"], entry)
            file.save()
            log_entry(client, file.run_id, {"kind": "tags", "values": entry["tags"]})
            return
        tags = {escape(key): str(value) for key, value in entry["tags"].items()} | {ENTRIES_TAG: file.path.stem}
        if entry["pipeline"]:
            parent = self._parent(file.uri, entry["pipeline"], entry)
            tags |= {PIPELINE_TAG: entry["pipeline"], "mlflow.parentRunId": parent}
        begun = self._search(file.uri, {ENTRIES_TAG: file.path.stem}) if file.creating else None
        file.creating = True
        file.save()
        file.run_id = begun or str(client.create_run(experiment, entry["time"], tags, entry["name"]).info.run_id)
        file.save()
        self._note(file)
        link(entry, entry.get("flow_run", ""), experiment, file.run_id)

    def _parent(self, uri: str, pipeline: str, child: Mapping[str, Any] | None = None) -> str:
        """The run of a pipeline; made for its first child."""
        if (uri, pipeline) not in self.parents:
            found = self._search(uri, {WHOLE_TAG: pipeline})
            if found is None:
                first = child or {}
                tags = {WHOLE_TAG: pipeline, PIPELINE_TAG: pipeline, "heptune.kind": "pipeline"}
                tags |= {"heptune.reason": first["reason"]} if first.get("reason") else {}
                name = first.get("title", "pipeline")
                made = self._client(uri).create_run(self._experiment(uri), first.get("time"), tags, name)
                found = str(made.info.run_id)
                link(first, "" if pipeline.startswith("dvc-") else pipeline, self._experiment(uri), found)
            self.parents[uri, pipeline] = found
        return self.parents[uri, pipeline]

    def _search(self, uri: str, tags: Mapping[str, str]) -> str | None:
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self._client(uri).search_runs([self._experiment(uri)], query, max_results=1)
        return str(runs[0].info.run_id) if runs else None


def link(entry: Mapping[str, Any], flow_run: str, experiment: str, run: str) -> None:
    """Lead from a flow run to its MLflow run, where the links to the server of reports do not."""
    if flow_run and entry.get("prefect") and not has_reports():
        link_to_mlflow(entry["prefect"], flow_run, experiment, run)


def halve(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries in two halves; one entry by its values; nothing where it has but one."""
    middle = len(entries) // 2
    if middle:
        return [list(entries[:middle]), list(entries[middle:])]
    values = entries[0].get("values")
    if not isinstance(values, dict) or len(values) < 2:
        return []
    keys = list(values)
    parts = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    return [[{**entries[0], "values": {key: values[key] for key in part}}] for part in parts]


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def experiment_id(client: MlflowClient) -> str:
    """The experiment of this project, created on first use with its artifacts below ``.heptune/``."""
    with FileLock(EXPERIMENT_LOCK):
        if found := client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        local = str(client.tracking_uri).startswith("sqlite")
        place = (artifacts.STATE / "mlflow-artifacts").resolve().as_uri() if local else None
        return client.create_experiment(EXPERIMENT, artifact_location=place, tags=KIND)


def work(uri: str) -> set[Path]:
    """Send until nothing is left and no run is at work, or until MLflow does not answer and all runs have ended.

    Returns:
        Files that stay for the next sender.
    """
    sender = Sender(uri)
    UNANSWERED.unlink(missing_ok=True)
    retry_at, idle_since = 0.0, time.monotonic()
    while UNSENT.is_dir():
        new = sender.look()
        if new or time.monotonic() >= retry_at:
            taken = sender.send_all()
            retry_at = 0.0 if taken else time.monotonic() + RETRY_S
            if UNANSWERED.is_file() and all(file.ended for file in sender.files.values()):
                break
        if sender.files:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > LINGER_S or not has_users():
            break
        time.sleep(POLL_S)
    return set(sender.files)


def main() -> None:
    """The sender's process. A second one ends at once."""
    os.chdir(configure())
    logging.basicConfig(format="%(asctime)s %(message)s")
    left = set[Path]()
    while True:
        try:
            with FileLock(SENDER_LOCK, timeout=1.0):
                SENDER_PID.write_text(str(os.getpid()), encoding="utf-8")
                left = work(os.environ["MLFLOW_TRACKING_URI"])
        except Timeout:
            return
        # A run that began while the lock was still held has started no sender of its own.
        if not set(UNSENT.glob("*.jsonl")) - left:
            return


if __name__ == "__main__":
    main()
