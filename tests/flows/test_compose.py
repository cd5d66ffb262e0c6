"""The commands of the compose file, run as they stand there against a real PostgreSQL; only addresses differ."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import yaml

from flows.wiring.servers.server import free_port
from tests.checkout import ROOT
from tests.flows.servers import running
from tests.flows.small import child_environment, make_project, outcomes, wait_for_mlflow
from tests.postgres import Database

SERVICES = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]


@pytest.fixture
def addresses(postgres: Database) -> dict[str, str]:
    """What the compose file says to what is there instead."""
    database = postgres.url.split("@")[1].split("/")[0]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for line in (ROOT / "infra/postgres/init.sql").read_text().splitlines():
            if not line.startswith("--"):
                connection.execute(line)
    return {
        "${POSTGRES_PASSWORD:?set a password}": "none",
        "@postgres:5432/heptune": f"@{database}/postgres",
        "@postgres:5432": f"@{database}",
        "0.0.0.0": "127.0.0.1",
    }


def here(text: str, addresses: dict[str, str]) -> str:
    for found, wanted in addresses.items():
        text = text.replace(found, wanted)
    return text


@pytest.fixture
def servers(addresses: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Prefect and MLflow as the compose file starts them, and the environment of the other services."""
    environment = {k: here(v, addresses) for k, v in SERVICES["worker"]["environment"].items()}
    with ExitStack() as stack:
        for name, port, health, variable in (
            ("prefect", "4200", "/api/health", "PREFECT_API_URL"),
            ("mlflow", "5000", "/health", "MLFLOW_TRACKING_URI"),
        ):
            service, wanted = SERVICES[name], str(free_port())
            own = {**addresses, port: wanted, "/opt/heptune": str(tmp_path)}
            words = [here(word, own) for word in (*service["entrypoint"], *service["command"])]
            extra = {key: here(value, own) for key, value in service["environment"].items()}
            extra |= {"PREFECT_HOME": str(tmp_path / "prefect-home")}
            stack.enter_context(running(words, f"http://127.0.0.1:{wanted}{health}", **extra))
            environment[variable] = environment[variable].replace(f"{name}:{port}", f"127.0.0.1:{wanted}")
        yield environment


def test_the_services_work_together(servers: dict[str, str], addresses: dict[str, str], tmp_path: Path) -> None:
    project = make_project(tmp_path / "image")
    shutil.copy(ROOT / "prefect.yaml", project)
    for name in ("flows", "tasks"):
        (project / name).symlink_to(ROOT / name)
    shutil.rmtree(project / ".git")  # the image is no git checkout
    (project / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    environment = {**child_environment(), **servers, "HEPTUNE_ROOT": str(project)}

    worker = " && ".join(SERVICES["worker"]["command"][0].split("&&")[:2])
    deployed = subprocess.run(
        ["sh", "-c", worker], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    done = subprocess.run(
        [sys.executable, "-m", "flows", "run", "data_preparation"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert outcomes(done.stdout) == {"data_preparation": "Ran"}
    wait_for_mlflow(project, **servers)
    assert not (project / ".heptune/mlflow.db").exists()
    base = servers["HEPTUNE_STORE_URL"].replace("+psycopg", "").rsplit("/", 1)[0]
    with psycopg.connect(f"{base}/mlflow") as database:
        runs = database.execute("select name, status, run_uuid from runs order by name").fetchall()
    named = [(name.split(",")[0], status) for name, status, _ in runs]
    assert named == [("by hand", "FINISHED"), ("data_preparation", "FINISHED")]
    with psycopg.connect(f"{base}/prefect") as database:
        flows = database.execute("select name, state_type from flow_run order by name").fetchall()
        links = database.execute(
            "select flow_run.name, artifact.data from artifact join flow_run on flow_run.id = artifact.flow_run_id "
            "where artifact.key = 'mlflow-run' order by flow_run.name"
        ).fetchall()
        deployments = database.execute("select name from deployment order by name").fetchall()
    assert flows == [("data_preparation", "COMPLETED"), ("pipeline: by hand", "COMPLETED")]
    # No server of reports leads on, so each flow run leads to its MLflow run.
    led = {name: re.search(r"http://127.0.0.1:5000/#/runs/(\w+)", str(data)) for name, data in links}
    assert {name: found and found[1] for name, found in led.items()} == {
        "data_preparation": runs[1][2],
        "pipeline: by hand": runs[0][2],
    }
    assert [name for (name,) in deployments] == ["monitoring", "pipeline", "retraining"]
    assert (tmp_path / ".heptune/mlflow-artifacts").is_dir()
