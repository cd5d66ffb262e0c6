from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.servers import prefect_server


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: seconds once, copied for each test."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """API address of a Prefect server, shared by the tests of this folder: look for your own runs there."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as (url, _):
        yield url
