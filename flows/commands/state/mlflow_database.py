"""MLflow's database, read without MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.state.mlflow_store import (
    EXPERIMENT,
    LOOKED_THROUGH,
    ModelVersion,
    RecordedRun,
    describe_run,
    stands_for_itself,
)
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from sqlalchemy import Connection

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


class Database:
    """The store behind a database URL.

    Args:
        url: As SQLAlchemy has it.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def read_versions(self, model: str) -> list[ModelVersion]:
        """See `Store`."""
        names: dict[int, list[str]] = {}
        tags: dict[int, dict[str, str]] = {}
        found = []
        with self._connected() as connection:
            if connection is None:
                return []
            for alias, version in self._rows(connection, ALIASES, model=model):
                names.setdefault(version, []).append(alias)
            for version, key, value in self._rows(connection, VERSION_TAGS, model=model):
                tags.setdefault(version, {})[key] = value
            for version, created in self._rows(connection, VERSIONS, model=model):
                about = tags.get(version, {})
                found.append(
                    ModelVersion(
                        version,
                        about.get("release", ""),
                        about.get("verdict", ""),
                        created / 1000,
                        names.get(version, []),
                    )
                )
        return found

    def read_runs(self, limit: int) -> list[RecordedRun]:
        """See `Store`."""
        with self._connected() as connection:
            if connection is None:
                return []
            rows = self._rows(connection, RUNS, experiment=EXPERIMENT, limit=LOOKED_THROUGH)
            since = min((row[3] for row in rows), default=0)
            tags: dict[str, dict[str, str]] = {}
            for run, key, value in self._rows(connection, TAGS, since=since):
                tags.setdefault(run, {})[key] = value
        runs = [describe_run(*row, tags.get(row[0], {})) for row in rows if stands_for_itself(tags.get(row[0], {}))]
        return runs[:limit]

    def read_seconds(self) -> dict[str, float]:
        """See `Store`."""
        with self._connected() as connection:
            if connection is None:
                return {}
            rows = self._rows(connection, SECONDS, experiment=EXPERIMENT, limit=LOOKED_THROUGH)
        return {stage: (ended - began) / 1000 for stage, began, ended in reversed(rows)}

    @contextmanager
    def _connected(self) -> Iterator[Connection | None]:
        """A connection; None where nothing was recorded yet.

        Raises:
            PipelineError: The database does not answer.
        """
        from sqlalchemy import create_engine, inspect
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import SQLAlchemyError

        try:
            url = make_url(self._url)
            if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
                yield None  # opening it would make it
                return
            engine = create_engine(url)
            try:
                with engine.connect() as connection:
                    yield connection if inspect(connection).has_table("registered_model_aliases") else None
            finally:
                engine.dispose()
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            raise PipelineError(f"MLflow's database does not answer ({reason}); check MLFLOW_TRACKING_URI") from error

    def _rows(self, connection: Connection, query: str, **values: Any) -> list[Any]:
        from sqlalchemy import text

        return list(connection.execute(text(query), values))
