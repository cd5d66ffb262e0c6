"""``heptune synthesize`` through the command line, the real Prefect and MLflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest
import yaml
from typer.testing import CliRunner

from flows.commands.command_line import app
from flows.wiring.params import read_params
from tasks.contracts.errors import PipelineError
from tasks.synthesis.wording import PLACEHOLDERS
from tests.endpoint import Endpoint
from tests.flows.small import child_environment, wait_for_mlflow
from tests.tasks.synthesis.teachers import Sums, sums

pytest.importorskip("openai", reason="openai is in the extra writers")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(Sums())
    yield server
    server.close()


def synthesize(folder: Path, prefect: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", "synthesize"],
        cwd=folder,
        env={**child_environment(), "PREFECT_API_URL": prefect},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "dvc.yaml").write_text("stages: {data_preparation: {cmd: python -m flows.data_preparation}}\n")
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    yield tmp_path
    read_params.cache_clear()


def test_rows_are_written_and_recorded(prefect: str, endpoint: Endpoint, project: Path) -> None:
    section = sums(endpoint.url, rows=5, title="sums").model_dump(mode="json")
    (project / "params.yaml").write_text(yaml.safe_dump({"synthesis": section}))
    done = synthesize(project, prefect)
    assert done.returncode == 0, done.stderr
    calls = len(endpoint.asked)
    assert "data/raw/synthetic/sums.jsonl: 5 rows, " in done.stdout
    assert f"of the proposed; {calls} calls, cost 0.0" in done.stdout
    assert len((project / "data/raw/synthetic/sums.jsonl").read_text().splitlines()) == 5
    assert (project / "reports/synthesis/index.html").is_file()
    runs = httpx.post(f"{prefect}/flow_runs/filter", json={"flow_runs": {"name": {"any_": ["synthesis"]}}}).json()
    assert [run["state_type"] for run in runs] == ["COMPLETED"]
    wait_for_mlflow(project)
    client = mlflow.MlflowClient(f"sqlite:///{project / '.heptune/mlflow.db'}")
    [experiment] = [found for found in client.search_experiments() if found.name == "heptune"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["rows"] == 5
    assert run.data.metrics["calls"] == calls
    assert run.data.params["teacher.model"] == "t"


def test_a_dry_run_asks_nothing(endpoint: Endpoint, project: Path) -> None:
    (project / "params.yaml").write_text("{}\n")
    refused = CliRunner().invoke(app, ["synthesize", "--dry-run"])
    assert isinstance(refused.exception, PipelineError)
    assert "synthesis is not set; name at least a teacher" in str(refused.exception)
    section = sums(endpoint.url, rows=5).model_dump(mode="json")
    (project / "params.yaml").write_text(yaml.safe_dump({"synthesis": section}))
    read_params.cache_clear()
    planned = CliRunner().invoke(app, ["synthesize", "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert [line.split()[:2] for line in planned.output.splitlines()[1:4]] == [
        ["topics", "1"],
        ["instructions", "2"],
        ["answers", "5"],
    ]
    assert "limits: calls none, cost none" in planned.output
    assert endpoint.asked == []


def test_the_prompts_are_copied(project: Path) -> None:
    assert CliRunner().invoke(app, ["synthesize", "--prompts", "prompts"]).exit_code == 0
    assert sorted(path.stem for path in Path("prompts").iterdir()) == sorted(PLACEHOLDERS)
