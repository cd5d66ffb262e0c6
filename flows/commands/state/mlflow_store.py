"""Where MLflow keeps what was recorded: a database or a server."""

from __future__ import annotations

import os

from flows.commands.state.mlflow_records import RecordStore
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError


def open_store(uri: str | None = None) -> RecordStore:
    """The store at ``MLFLOW_TRACKING_URI``, by default the checkout's own database.

    Raises:
        PipelineError: The address is neither a server's nor a database's.
    """
    configure()
    uri = uri or os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith(("http://", "https://")):
        from flows.commands.state.mlflow_server import Server

        return Server(uri.rstrip("/"))
    if "://" in uri and not uri.startswith("file:"):
        from flows.commands.state.mlflow_database import Database

        return Database(uri)
    raise PipelineError(
        f"MLFLOW_TRACKING_URI is {uri}; expected a server (http://...) or a database (sqlite:///..., postgresql://...)"
    )
