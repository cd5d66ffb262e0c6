"""Model versions and runs, read where MLflow keeps them.

MLflow's own client takes seconds to import, so the tables of its database, or the REST interface of its server, are
asked instead. Tests hold the answers against the client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

EXPERIMENT = "heptune"
TIMEOUT_S = 5.0
# How many runs are looked through for those that stand for themselves.
LOOKED_THROUGH = 400
PARENT = "mlflow.parentRunId"
# Runs that only carry the files of a release.
RELEASE = "release"
THROUGHPUT_METRIC = "tokens_per_second"


@dataclass(frozen=True)
class ModelVersion:
    """A registered release.

    Attributes:
        version: Its number.
        release: Hash of the release; empty where it was not registered by ``heptune register``.
        verdict: What evaluation decided about it.
        registered: Seconds since the epoch.
        aliases: Names that point to it, such as ``champion``.
    """

    version: int
    release: str
    verdict: str
    registered: float
    aliases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RecordedRun:
    """A run that stands for itself: a pipeline, a retrain or a synthesis.

    Attributes:
        run: MLflow's id.
        name: Its name.
        reason: Why it was started.
        status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``.
        result: What was decided: the decision of a retrain, else the verdict of evaluation; empty: nothing.
        began: Seconds since the epoch.
        ended: Seconds since the epoch; None while it runs.
    """

    run: str
    name: str
    reason: str
    status: str
    result: str
    began: float
    ended: float | None


class RecordStore(Protocol):
    """Where MLflow keeps what was recorded."""

    def read_versions(self, model: str) -> list[ModelVersion]:
        """All versions of a model, oldest first; none where it is not registered."""
        ...

    def read_runs(self, limit: int) -> list[RecordedRun]:
        """The newest runs that stand for themselves, newest first."""
        ...

    def read_seconds(self) -> dict[str, float]:
        """Stage to the seconds of its last finished run."""
        ...

    def read_throughput(self) -> float | None:
        """Tokens a second of the last training that told them; None where none has."""
        ...


def describe_run(run: str, name: str, status: str, began: Any, ended: Any, tags: Mapping[str, str]) -> RecordedRun:
    """A run from what both kinds of store have of it; times in milliseconds since the epoch."""
    return RecordedRun(
        run,
        name,
        tags.get("heptune.reason", ""),
        status,
        tags.get("heptune.decision") or tags.get("heptune.verdict", ""),
        float(began or 0) / 1000,
        float(ended) / 1000 if ended else None,
    )


def stands_for_itself(tags: Mapping[str, str]) -> bool:
    return PARENT not in tags and tags.get("heptune.kind") != RELEASE
