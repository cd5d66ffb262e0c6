"""The sender: one process a checkout that forwards files of entries to MLflow.

`flows.wiring.recording` starts it when a run begins; it ends by itself when nothing is left to send. Killed, it is
followed by the next, which goes on at the offset that was noted; applying an entry twice does no harm. While MLflow
does not answer, entries stay where they are. An entry that MLflow refuses is set aside with the reason in
``.heptune/refused/`` and holds up no other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import posixpath
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from flows.wiring import artifacts, lineage
from flows.wiring.recording import (
    SENDER,
    SENDER_LOCK,
    SENDER_PID,
    UNANSWERED,
    UNSENT,
    Entry,
    copies_of,
    is_alive,
    is_at_work,
)
from flows.wiring.server import has_users
from flows.wiring.settings import configure

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "heptune"
PIPELINE_TAG = "heptune.pipeline"
ENTRIES_TAG = "heptune.entries"
EXPERIMENT_LOCK = artifacts.STATE / "mlflow.lock"
REFUSED = artifacts.STATE / "refused"
BATCH = 500
POLL_S = 0.2
LINGER_S = 10.0  # the stages of a pipeline follow one another sooner than that; without a pipeline there is no next
RETRY_S = 5.0
ABANDONED_S = 60.0
ATTEMPTS = 3
LONGEST_KEY = 250
# What an entry that creates a run must have.
BEGINNING = {"name", "pipeline", "tags", "time", "uri", "writer", "owner"}
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


class EntryFile:
    """A file of entries, and how much of it MLflow has.

    Attributes:
        run_id: The MLflow run, once it was created.
        uri: The MLflow server that the entries go to.
    """

    def __init__(self, path: Path, adopted_by: str | None = None) -> None:
        self.path = path
        self.state_path = SENDER / f"{path.stem}.json"
        state = self._read_state()
        self.offset: int = state.get("offset", 0)
        self.run_id: str | None = state.get("run")
        self.creating: bool = state.get("creating", False)
        self.attempts: int = state.get("attempts", 0)
        self.created: Entry = {}
        self.finished: Entry = {}
        self.ended = False
        self._scanned = 0
        self.scan()
        self.uri: str = state.get("uri") or adopted_by or self.created.get("uri", "")

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self.state_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return state

    def save(self) -> None:
        """Note how far MLflow has the file."""
        # The address is kept from the moment that a run may exist there.
        state = {
            "offset": self.offset,
            "run": self.run_id,
            "creating": self.creating,
            "attempts": self.attempts,
            "uri": self.uri if self.creating else None,
        }
        aside = self.state_path.with_suffix(".part")
        aside.write_text(json.dumps(state), encoding="utf-8")
        aside.replace(self.state_path)

    def scan(self) -> None:
        """Look for the entries that begin and end a run among the lines that are new."""
        for line, end in self._lines(self._scanned):
            entry = parse(line) or {}
            if self._scanned == 0 and entry.get("kind") == "create" and entry.keys() >= BEGINNING:
                self.created = entry
            if entry.get("kind") == "finish":
                self.finished = entry
            self.ended = self.ended or entry.get("kind") == "end"
            self._scanned = end

    def read(self) -> list[tuple[bytes, int]]:
        """The next lines that MLflow does not have, each with the offset behind it."""
        return self._lines(self.offset, BATCH)

    def _lines(self, offset: int, most: int | None = None) -> list[tuple[bytes, int]]:
        found = list[tuple[bytes, int]]()
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n") or len(found) == most:
                    break
                offset += len(line)
                found.append((line, offset))
        return found

    def append(self, *entries: Entry) -> None:
        """Write entries that the run itself did not leave; the run must have ended."""
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        with self.path.open("ab") as stream:
            whole = stream.tell() == 0 or self.path.read_bytes()[-1:] == b"\n"
            stream.write((b"" if whole else b"\n") + text.encode())
        self.scan()

    def is_complete(self) -> bool:
        """Whether nothing more will come: the run has ended, or its first entry is broken or never came."""
        if self.created:
            return self.ended and self._scanned == self.offset
        return self._scanned > 0 or time.time() - self.path.stat().st_mtime > ABANDONED_S

    def set_aside(self, entry: Any, reason: str) -> None:
        """Keep an entry that MLflow does not take, with the reason."""
        REFUSED.mkdir(parents=True, exist_ok=True)
        logger.warning("%s: not taken by MLflow: %s", self.path.name, reason)
        with (REFUSED / self.path.name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"reason": reason, "run": self.run_id, "entry": entry}) + "\n")

    def remove(self) -> None:
        shutil.rmtree(copies_of(self.path), ignore_errors=True)
        self.path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)


def parse(line: bytes) -> Entry | None:
    """The entry of a line, or None where it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "kind" in entry else None


def settle(file: EntryFile) -> None:
    """Complete the entries of a run that has ended: killed without a word, or by the hashes that DVC wrote after it."""
    if file.ended or not file.created:
        return
    if not file.finished:
        if is_alive(file.created["writer"], file.path):
            return
        file.scan()  # it may have finished in between
        if not file.finished:
            file.append({"kind": "finish", "status": "KILLED", "time": int(file.path.stat().st_mtime * 1000)})
    owner, stage = file.created["owner"], file.created["name"]
    if file.ended:
        return
    if owner is None:
        file.append({"kind": "end"})
        return
    if file.finished.get("status") != "FINISHED":
        hashes: lineage.Hashes | None = lineage.find_inputs(stage), {}
    else:
        dvc_ended = not is_alive(owner, file.path)
        hashes = lineage.find_hashes(stage, file.finished.get("written", {}), dvc_ended)
        if hashes is None and not dvc_ended:
            return
    deps, outs = hashes or ({}, {})
    tags = {f"dvc.dep.{path}": digest for path, digest in deps.items()}
    tags |= {f"dvc.out.{path}": digest for path, digest in outs.items()}
    inputs = {path: digest for path, digest in deps.items() if path.startswith("data/")}
    file.append({"kind": "tags", "values": tags}, {"kind": "inputs", "values": inputs}, {"kind": "end"})


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
        from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

        client, metrics = self._client(file.uri), list[Any]()
        for entry in entries:
            kind = entry["kind"]
            if kind == "create":
                self._create(file, entry)
                continue
            if file.run_id is None:
                raise ValueError("an entry came before the one that creates its run")
            if kind == "metrics":
                metrics += [Metric(escape(k), v, entry["time"], entry["step"]) for k, v in entry["values"].items()]
            elif kind == "params":
                params = [Param(escape(key), value) for key, value in entry["values"].items()]
                for start in range(0, len(params), 100):
                    client.log_batch(file.run_id, params=params[start : start + 100])
            elif kind == "tags":
                tags = [RunTag(escape(key), str(value)) for key, value in entry["values"].items()]
                for start in range(0, len(tags), 100):
                    client.log_batch(file.run_id, tags=tags[start : start + 100])
            elif kind == "inputs":
                sets = [
                    DatasetInput(Dataset(path, digest, "local", json.dumps({"uri": path})), [])
                    for path, digest in entry["values"].items()
                ]
                if sets:
                    client.log_inputs(file.run_id, sets)
            elif kind == "artifact":
                client.log_artifact(file.run_id, entry["path"])
            elif kind == "finish":
                _log_metrics(client, file.run_id, metrics)
                metrics = []
                client.set_terminated(file.run_id, entry["status"], entry["time"])
                if pipeline := file.created["pipeline"]:
                    client.set_terminated(self._parent(file.uri, pipeline), entry["status"], entry["time"])
            elif kind != "end":
                raise ValueError(f'unknown kind of entry "{kind}"')
        if metrics and file.run_id:
            _log_metrics(client, file.run_id, metrics)

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
        tags = {escape(key): str(value) for key, value in entry["tags"].items()} | {ENTRIES_TAG: file.path.stem}
        if entry["pipeline"]:
            parent = self._parent(file.uri, entry["pipeline"], entry)
            tags |= {PIPELINE_TAG: entry["pipeline"], "mlflow.parentRunId": parent}
        begun = self._search(file.uri, {ENTRIES_TAG: file.path.stem}) if file.creating else None
        file.creating = True
        file.save()
        file.run_id = begun or str(client.create_run(experiment, entry["time"], tags, entry["name"]).info.run_id)
        file.save()

    def _parent(self, uri: str, pipeline: str, child: Mapping[str, Any] | None = None) -> str:
        """The run of a pipeline; made for its first child."""
        if (uri, pipeline) not in self.parents:
            tags = {PIPELINE_TAG: pipeline, "heptune.kind": "pipeline"}
            found = self._search(uri, tags)
            if found is None:
                first = child or {}
                tags |= {"heptune.reason": first["reason"]} if first.get("reason") else {}
                made = self._client(uri).create_run(self._experiment(uri), first.get("time"), tags, "pipeline")
                found = str(made.info.run_id)
            self.parents[uri, pipeline] = found
        return self.parents[uri, pipeline]

    def _search(self, uri: str, tags: Mapping[str, str]) -> str | None:
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self._client(uri).search_runs([self._experiment(uri)], query, max_results=1)
        return str(runs[0].info.run_id) if runs else None


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


def escape(key: str) -> str:
    """A key that MLflow takes: characters that it refuses as ``:`` and their code point, ``what?`` as ``what:3f``.

    A colon that could be taken for one of these, and digits and letters a to f behind one, are written so too:
    different keys stay different. The empty key is ``:-``.
    """
    if key in ("", ":-"):
        return ":3a-" if key else ":-"
    escaped = re.sub(
        r"(?:[^/\w.\- :]|:(?=[0-9a-f]))[0-9a-f]*", lambda found: "".join(f":{ord(each):x}" for each in found[0]), key
    )
    if posixpath.normpath(escaped) != escaped or escaped.startswith((".", "/")):
        escaped = escaped.replace("/", ":2f")
        escaped = re.sub(r"^\.", ":2e", escaped)
    if len(escaped) > LONGEST_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        escaped = f"{escaped[: LONGEST_KEY - 13]}:{digest}"
    return escaped


def _log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Any]) -> None:
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def experiment_id(client: MlflowClient) -> str:
    """The experiment of this project, created on first use with its artifacts below ``.heptune/``."""
    with FileLock(EXPERIMENT_LOCK):
        if found := client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        local = str(client.tracking_uri).startswith("sqlite")
        place = (artifacts.STATE / "mlflow-artifacts").resolve().as_uri() if local else None
        return client.create_experiment(EXPERIMENT, artifact_location=place)


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
