"""MLflow: the server or database that runs are recorded in, asked without MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings
from tasks.contracts.errors import PipelineError

VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"


def examine(here: Surroundings) -> Iterator[Finding]:
    from flows.commands.state.mlflow_store import open_store

    uri = os.environ.get(VARIABLE, "")
    path = Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None
    if path is not None and not path.exists():
        return  # the first run makes it
    model = here.params.deployment.release.model if here.params else "heptune"
    try:
        open_store().read_versions(model)
    except PipelineError as error:
        found, _, fix = str(error).rpartition("; ")
        advice = f"move {path} away, or bring back a copy" if path is not None else fix
        yield Finding("error", str(path or VARIABLE), found or str(error), advice)
