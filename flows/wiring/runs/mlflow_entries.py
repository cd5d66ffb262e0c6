"""Entries as calls of MLflow, with the keys that it takes."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.wiring.runs.recording import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_KEY = 250
# The artifact of a run that only the newest runs keep, and how many old ones are looked at at once.
BULKY_TAG = "heptune.bulky"
DROPPED_AT_ONCE = 100


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


def log_entry(client: MlflowClient, run_id: str, entry: Entry) -> None:
    """Tell MLflow params, tags, inputs, an artifact or a table of a run, or which artifact only the newest runs keep.

    Raises:
        ValueError: The entry is of another kind.
    """
    from mlflow.entities import Dataset, DatasetInput, Param, RunTag

    kind = entry["kind"]
    if kind == "artifact":
        client.log_artifact(run_id, entry["path"], entry.get("folder") or None)
        return
    if kind == "table":
        log_table(client, run_id, Path(entry["path"]))
        return
    if kind == "keep_newest":
        drop_old(client, run_id, entry["artifact"], entry["runs"])
        return
    values = entry["values"]
    if kind == "params":
        params = [Param(escape(key), value) for key, value in values.items()]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
    elif kind == "tags":
        tags = [RunTag(escape(key), str(value)) for key, value in values.items()]
        for start in range(0, len(tags), 100):
            client.log_batch(run_id, tags=tags[start : start + 100])
    elif kind == "inputs":
        sets = [
            DatasetInput(Dataset(path, digest, "local", json.dumps({"uri": path})), [])
            for path, digest in values.items()
        ]
        if sets:
            client.log_inputs(run_id, sets)
    else:
        raise ValueError(f'unknown kind of entry "{kind}"')


def log_table(client: MlflowClient, run_id: str, path: Path) -> None:
    """Keep a table as ``MlflowClient.log_table`` does, which would append to one that an earlier attempt sent.

    Args:
        client: Of the server.
        run_id: The run.
        path: The table in pandas' ``split`` form.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

    client.log_artifact(run_id, str(path))
    known = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    table = {"path": path.name, "type": "table"}
    if table not in known:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*known, table]))


def drop_old(client: MlflowClient, run_id: str, artifact: str, newest: int) -> None:
    """Delete an artifact of all runs but the newest ones that have it.

    Args:
        client: Of the server that keeps the runs.
        run_id: The newest run.
        artifact: Path of the artifact, the same in every run.
        newest: How many runs keep it, the newest run among them.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client.set_tag(run_id, BULKY_TAG, artifact)
    experiment = client.get_run(run_id).info.experiment_id
    having = client.search_runs(
        [experiment],
        f"tags.`{BULKY_TAG}` = '{artifact}'",
        order_by=["attributes.start_time DESC"],
        max_results=newest + DROPPED_AT_ONCE,
    )
    for run in having[newest:]:
        repository: Any = get_artifact_repository(run.info.artifact_uri, client.tracking_uri)
        repository.delete_artifacts(artifact)
        client.delete_tag(run.info.run_id, BULKY_TAG)


def as_metrics(entry: Entry) -> list[Any]:
    """MLflow's metrics of an entry."""
    from mlflow.entities import Metric

    return [Metric(escape(key), value, entry["time"], entry["step"]) for key, value in entry["values"].items()]


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Any]) -> None:
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
