"""A server that goes away in the middle of a stage: the work is kept and the state is honest."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.commands.state.mlflow_store import open_store
from flows.wiring.servers.server import free_port
from tests.flows.servers import kill, mlflow_server, prefect_server
from tests.flows.small import child_environment, make_project, outcomes, wait_for

STAGE = "data_preparation"


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    """A project whose first stage waits for ``trouble/data_preparation.go``."""
    folder = make_project(tmp_path / "project", empty_database)
    (folder / "trouble").mkdir()
    (folder / "trouble" / STAGE).write_text("wait")
    return folder


def start(project: Path, *words: str, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows", "run", *words],
        cwd=project,
        env={**child_environment(), "PREFECT_CLIENT_MAX_RETRIES": "1", **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go_on(project: Path, process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Let the waiting stage finish; exit code, output and errors of the command."""
    (project / "trouble" / f"{STAGE}.go").touch()
    output, errors = process.communicate(timeout=300)
    shutil.rmtree(project / "trouble")
    return process.returncode, output, errors


@pytest.mark.slow
def test_prefect_is_killed_while_a_stage_is_at_work(project: Path, tmp_path: Path) -> None:
    home, port = tmp_path / "prefect", free_port()
    with prefect_server(home, port) as (url, server):
        command = start(project, STAGE, PREFECT_API_URL=url)
        wait_for(project / "trouble" / f"{STAGE}.began", 120)
        kill(server)
        code, _, errors = go_on(project, command)
    assert code == 1
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("heptune: the Prefect server went away (ConnectError)")
    assert (project / "work" / f"{STAGE}.txt").is_file()
    with prefect_server(home, port) as (url, _):
        again = start(project, STAGE, PREFECT_API_URL=url)
        output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert set(outcomes(output)) == {STAGE}
    checked = subprocess.run(
        ["dvc", "repro", STAGE], cwd=project, env=child_environment(), capture_output=True, text=True, check=False
    )
    assert "Data and pipelines are up to date." in checked.stdout + checked.stderr


def ask_both(url: str, database: str) -> None:
    """A server is read as its database is."""
    client = MlflowClient(tracking_uri=url)
    client.create_registered_model("heptune")
    run = client.create_run("0").info
    tags = {"release": "r1", "verdict": "keep"}
    client.create_model_version("heptune", f"{run.artifact_uri}/release", run.run_id, tags)
    client.set_registered_model_alias("heptune", "champion", "1")
    server, tables = open_store(url), open_store(database)
    assert server.read_versions("heptune") == tables.read_versions("heptune") != []
    assert server.read_versions("other") == tables.read_versions("other") == []
    assert server.read_runs(20) == tables.read_runs(20) != []
    assert server.read_seconds() == tables.read_seconds() != {}


@pytest.mark.slow
def test_mlflow_is_killed_while_a_stage_is_at_work(project: Path, tmp_path: Path) -> None:
    home, port = tmp_path / "mlflow", free_port()
    home.mkdir()
    with prefect_server(tmp_path / "prefect") as (api, _):
        with mlflow_server(home, port) as (url, server):
            servers = {"PREFECT_API_URL": api, "MLFLOW_TRACKING_URI": url}
            command = start(project, STAGE, **servers)
            wait_for(project / "trouble" / f"{STAGE}.began", 120)
            kill(server)
            code, output, errors = go_on(project, command)
        assert code == 0, errors
        assert outcomes(output) == {STAGE: "Ran"}
        assert "did not answer; its entries are kept" in errors
        assert len(list((project / ".heptune/unsent").iterdir())) == 1
        with mlflow_server(home, port):
            again = start(project, "model_initialisation", **servers)
            _, errors = again.communicate(timeout=300)
            ask_both(url, f"sqlite:///{home / 'mlflow.db'}")
    assert again.returncode == 0, errors
    assert not list((project / ".heptune/unsent").iterdir())
    with sqlite3.connect(home / "mlflow.db") as database:
        runs = database.execute("select status from runs where name = ?", [STAGE]).fetchall()
        losses = database.execute("select step, value from metrics where key = 'loss' order by step").fetchall()
    assert runs == [("FINISHED",)]
    assert losses == [(1, 0.5), (1, 0.5), (2, 0.25), (2, 0.25)]
