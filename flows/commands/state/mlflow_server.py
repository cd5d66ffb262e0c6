"""An MLflow server, asked over its REST interface without MLflow's client."""

from __future__ import annotations

import os
from typing import Any

from flows.commands.state.mlflow_records import (
    EXPERIMENT,
    LOOKED_THROUGH,
    THROUGHPUT_METRIC,
    TIMEOUT_S,
    ModelVersion,
    RecordedRun,
    describe_run,
    stands_for_itself,
)
from tasks.contracts.errors import PipelineError

PAGE = 200


class Server:
    """The store behind a server.

    Args:
        url: Address of the server; user and password, or a token, come from the variables that MLflow's client reads.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def read_versions(self, model: str) -> list[ModelVersion]:
        """See `RecordStore`."""
        registered = self._ask("registered-models/get", {"name": model})
        if registered is None:
            return []
        names: dict[int, list[str]] = {}
        for alias in registered["registered_model"].get("aliases", []):
            names.setdefault(int(alias["version"]), []).append(alias["alias"])
        found, page = [], ""
        while True:
            asked = {"filter": f"name='{model}'", "max_results": PAGE, **({"page_token": page} if page else {})}
            answer = self._ask("model-versions/search", asked) or {}
            for entry in answer.get("model_versions", []):
                number, tags = int(entry["version"]), as_tags(entry)
                found.append(
                    ModelVersion(
                        number,
                        tags.get("release", ""),
                        tags.get("verdict", ""),
                        int(entry["creation_timestamp"]) / 1000,
                        sorted(names.get(number, [])),
                    )
                )
            page = answer.get("next_page_token", "")
            if not page:
                return sorted(found, key=lambda version: version.version)

    def read_runs(self, limit: int) -> list[RecordedRun]:
        """See `RecordStore`."""
        found = []
        for run in self._search_runs(""):
            info, tags = run["info"], as_tags(run["data"])
            if stands_for_itself(tags):
                name = info.get("run_name", "")
                times = info.get("start_time"), info.get("end_time")
                found.append(describe_run(info["run_id"], name, info["status"], *times, tags))
        return found[:limit]

    def read_seconds(self) -> dict[str, float]:
        """See `RecordStore`."""
        seconds = {}
        for run in reversed(self._search_runs("attributes.status = 'FINISHED'")):
            info, tags = run["info"], as_tags(run["data"])
            if "heptune.stage" in tags:
                seconds[tags["heptune.stage"]] = (int(info["end_time"]) - int(info["start_time"])) / 1000
        return seconds

    def read_throughput(self) -> float | None:
        """See `RecordStore`."""
        for run in self._search_runs(""):
            metrics = {one["key"]: one["value"] for one in run["data"].get("metrics", [])}
            if THROUGHPUT_METRIC in metrics:
                return float(metrics[THROUGHPUT_METRIC])
        return None

    def _search_runs(self, query: str) -> list[Any]:
        experiment = self._ask("experiments/get-by-name", {"experiment_name": EXPERIMENT})
        if experiment is None:
            return []
        asked = {
            "experiment_ids": [experiment["experiment"]["experiment_id"]],
            "filter": query,
            "max_results": LOOKED_THROUGH,
            "order_by": ["attributes.start_time DESC"],
        }
        return list((self._ask("runs/search", body=asked) or {}).get("runs", []))

    def _ask(self, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """An answer of the server; None where it has no such thing.

        Raises:
            PipelineError: It does not answer, or refuses.
        """
        import httpx

        token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        auth = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
        url = f"{self._url}/api/2.0/mlflow/{path}"
        try:
            with httpx.Client(timeout=TIMEOUT_S, headers=headers, auth=auth) as client:
                answer = client.get(url, params=query) if body is None else client.post(url, json=body)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise PipelineError(
                f"MLflow at {self._url} does not answer ({type(error).__name__}: {error}); check MLFLOW_TRACKING_URI"
            ) from error


def as_tags(entry: Any) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in entry.get("tags", [])}
