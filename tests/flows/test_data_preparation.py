"""Stage 1 as DVC starts it: every out written and sealed, and a failed gate stops with one line and no split."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.wiring import artifacts
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tests.checkout import ROOT
from tests.flows.small import SYLLABLES, child_environment, make_project


def run_stage(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.data_preparation"],
        cwd=project,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("stage") / "project")
    (folder / artifacts.RAW).mkdir(parents=True)
    rows = [
        {
            "question": " ".join(SYLLABLES[(place * i + i // 25) % 25] for place in range(1, 7)),
            "answer": f"{SYLLABLES[i % 25]} it is.",
        }
        for i in range(200)
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / artifacts.RAW / "faq.jsonl").write_text("\n".join([*lines, "{torn"]))
    write_params(folder, min_rows=50)
    return folder


def write_params(project: Path, min_rows: int) -> None:
    path = project / artifacts.PARAMS
    values = yaml.safe_load(path.read_text())
    values["data_preparation"]["sources"] = [{"name": "jsonl", "path": "data/raw/faq.jsonl", "title": "faq"}]
    values["data_preparation"]["gate"]["min_rows"] = min_rows
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def test_the_stage_writes_what_dvc_expects_then_fails_closed(project: Path) -> None:
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(project / artifacts.PREPARED, verify=True)
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["data_preparation"]
    for out in (*declared["outs"], *declared["metrics"]):
        assert (project / out).exists(), out
    figures = json.loads((project / artifacts.metrics("data_preparation")).read_text())
    assert figures["rows_read"] == 201
    assert figures["dropped_read"] == 1
    assert sum(manifest["counts"].values()) == 201

    write_params(project, min_rows=100_000)
    failed = run_stage(project)
    assert failed.returncode == 1
    reason = [line for line in failed.stderr.splitlines() if line.startswith("quality gate: enough_rows failed")]
    assert len(reason) >= 1
    assert "Traceback" not in failed.stderr
    with pytest.raises(PipelineError, match="not complete"):
        read_manifest(project / artifacts.PREPARED)
    assert "gate failed" in (project / artifacts.report("data_preparation")).read_text()
