"""MLflow's database, read without MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from flows.commands.state.mlflow_records import (
    EXPERIMENT,
    LOOKED_THROUGH,
    THROUGHPUT_METRIC,
    ModelVersion,
    RecordedRun,
    describe_run,
    stands_for_itself,
)
from tasks.contracts.errors import PipelineError

# A query and its values to its rows.
Rows = Callable[[str, Mapping[str, Any]], Iterable[Any]]
ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE name = :model ORDER BY alias"
VERSION_TAGS = "SELECT version, key, value FROM model_version_tags WHERE name = :model"
VERSIONS = "SELECT version, creation_time FROM model_versions WHERE name = :model ORDER BY version"
RUNS = """
    SELECT run_uuid, runs.name, status, start_time, end_time FROM runs JOIN experiments USING (experiment_id)
    WHERE experiments.name = :experiment AND runs.lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT :limit
"""
TAGS = """
    SELECT run_uuid, key, value FROM tags WHERE (key = 'mlflow.parentRunId' OR key LIKE 'heptune.%')
    AND run_uuid IN (SELECT run_uuid FROM runs WHERE start_time >= :since)
"""
SECONDS = """
    SELECT tags.value, start_time, end_time FROM runs JOIN tags USING (run_uuid) JOIN experiments USING (experiment_id)
    WHERE experiments.name = :experiment AND tags.key = 'heptune.stage' AND status = 'FINISHED'
    AND runs.lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT :limit
"""
# The median of a run: its first and last steps are slower.
THROUGHPUT = """
    SELECT value FROM metrics WHERE key = :metric AND run_uuid = (
        SELECT run_uuid FROM metrics JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id)
        WHERE key = :metric AND experiments.name = :experiment AND runs.lifecycle_stage = 'active'
        ORDER BY timestamp DESC LIMIT 1
    ) ORDER BY value
"""


class Database:
    """The store behind a database URL.

    Args:
        url: As SQLAlchemy has it.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def read_versions(self, model: str) -> list[ModelVersion]:
        """See `RecordStore`."""
        names: dict[int, list[str]] = {}
        tags: dict[int, dict[str, str]] = {}
        with self._connected() as rows:
            for alias, version in rows(ALIASES, {"model": model}):
                names.setdefault(version, []).append(alias)
            for version, key, value in rows(VERSION_TAGS, {"model": model}):
                tags.setdefault(version, {})[key] = value
            return [
                ModelVersion(
                    version,
                    tags.get(version, {}).get("release", ""),
                    tags.get(version, {}).get("verdict", ""),
                    created / 1000,
                    names.get(version, []),
                )
                for version, created in rows(VERSIONS, {"model": model})
            ]

    def read_runs(self, limit: int) -> list[RecordedRun]:
        """See `RecordStore`."""
        tags: dict[str, dict[str, str]] = {}
        with self._connected() as rows:
            found = list(rows(RUNS, {"experiment": EXPERIMENT, "limit": LOOKED_THROUGH}))
            for run, key, value in rows(TAGS, {"since": min((row[3] for row in found), default=0)}):
                tags.setdefault(run, {})[key] = value
        runs = [
            describe_run(run, name, status, began, ended, tags.get(run, {}))
            for run, name, status, began, ended in found
            if stands_for_itself(tags.get(run, {}))
        ]
        return runs[:limit]

    def read_seconds(self) -> dict[str, float]:
        """See `RecordStore`."""
        with self._connected() as rows:
            found = list(rows(SECONDS, {"experiment": EXPERIMENT, "limit": LOOKED_THROUGH}))
        return {stage: (ended - began) / 1000 for stage, began, ended in reversed(found)}

    def read_throughput(self) -> float | None:
        """See `RecordStore`."""
        with self._connected() as rows:
            found = list(rows(THROUGHPUT, {"experiment": EXPERIMENT, "metric": THROUGHPUT_METRIC}))
        return float(found[len(found) // 2][0]) if found else None

    def _connected(self) -> AbstractContextManager[Rows]:
        return open_sqlite(self._url) if self._url.startswith("sqlite:") else open_server(self._url)


@contextmanager
def open_sqlite(url: str) -> Iterator[Rows]:
    """Rows of a query, of the checkout's own kind of database; none where nothing was recorded yet.

    Raises:
        PipelineError: It cannot be read.
    """
    import sqlite3

    path = Path(url.partition("///")[2])
    if not path.is_file():  # opening it would make it
        yield lambda query, values: []
        return
    try:
        with closing(sqlite3.connect(path)) as connection:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'registered_model_aliases'").fetchone()
            yield connection.execute if made else lambda query, values: []
    except sqlite3.Error as error:
        raise PipelineError(f"{path}: MLflow's database cannot be read ({error}); try again") from error


@contextmanager
def open_server(url: str) -> Iterator[Rows]:
    """Rows of a query, of a database server; none where nothing was recorded yet.

    Raises:
        PipelineError: It does not answer.
    """
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                made = inspect(connection).has_table("registered_model_aliases")
                yield lambda query, values: connection.execute(text(query), values).all() if made else []
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"MLflow's database does not answer ({reason}); check MLFLOW_TRACKING_URI") from error
