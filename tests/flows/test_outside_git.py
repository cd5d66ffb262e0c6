"""A checkout that was copied without git, or whose git cannot be used, works; one without DVC says what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.small import child_environment, make_project, outcomes


def run(project: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *words],
        cwd=project,
        env={**child_environment(), **extra},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_stage_runs_without_git_and_without_a_commit(tmp_path: Path, prefect: str) -> None:
    stage = "data_preparation"
    locks = []
    for kind in ("copied", "no commit", "no git on the path"):
        project = make_project(tmp_path / kind / "project")
        extra = {"PREFECT_API_URL": prefect, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
        if kind != "no git on the path":
            shutil.rmtree(project / ".git")
        else:
            extra["PATH"] = str(Path(sys.executable).parent)
        if kind == "no commit":
            subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        done = run(project, "run", stage, **extra)
        assert done.returncode == 0, (kind, done.stderr)
        assert outcomes(done.stdout) == {stage: "Ran"}
        assert outcomes(run(project, "run", stage, **extra).stdout) == {stage: "Unchanged"}
        locks.append((project / "dvc.lock").read_bytes())
    assert len(set(locks)) == 1


def test_a_copy_without_dvc_says_what_to_do(tmp_path: Path, prefect: str) -> None:
    project = make_project(tmp_path / "project")
    shutil.rmtree(project / ".dvc")
    done = run(project, "run", PREFECT_API_URL=prefect)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("heptune: no .dvc folder here")
    assert "`dvc init" in last
    (project / "dvc.yaml").write_text("stages: {}\nstages: {}\n")
    twice = run(project, "run", PREFECT_API_URL=prefect)
    assert (
        twice.stderr.splitlines()[-1] == "heptune: dvc.yaml:2: stages stands twice, first in line 1; keep one of them"
    )
