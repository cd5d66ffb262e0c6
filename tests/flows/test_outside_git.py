"""A checkout that was copied without git, or whose git cannot be used, works; one without DVC says what to do.

So do a folder that is no checkout, and a Python that has not the packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands.command_line import describe_unknown
from tests.checkout import ROOT
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
        assert (
            done.stderr.count("no git repository has this checkout, so runs and model versions record no commit") == 1
        )
        assert outcomes(run(project, "run", stage, **extra).stdout) == {stage: "Unchanged"}
        locks.append((project / "dvc.lock").read_bytes())
    assert len(set(locks)) == 1


def test_a_copy_in_the_repository_of_another_project_takes_no_commit_of_it(tmp_path: Path) -> None:
    project = make_project(tmp_path / "outer/project")
    shutil.rmtree(project / ".git")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], cwd=project.parent, check=True)
    code = (
        "from flows.wiring.versions.lineage import git_commit; from flows.wiring.versions.commit import commit_inputs;"
        "print(git_commit(), commit_inputs('why'))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=project, env=child_environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "none None\n"


def test_a_command_leaves_nothing_outside_a_checkout(tmp_path: Path) -> None:
    """Not even in another project of DVC; its help needs no checkout, and below one it works in the root."""
    stranger = tmp_path / "stranger/below"
    stranger.mkdir(parents=True)
    (stranger.parent / "dvc.yaml").write_text("stages: {}\n")
    done = run(stranger, "keys", "list")
    assert (done.returncode, done.stderr) == (
        1,
        f"heptune: {stranger}: no checkout of Heptune here or above; expected its dvc.yaml and params.yaml; "
        "change into one\n",
    )
    assert run(stranger, "keys", "list", "--help").returncode == 0
    assert sorted(path.name for path in stranger.parent.rglob("*")) == ["below", "dvc.yaml"]
    project = make_project(tmp_path / "project")
    (project / "work/below").mkdir()
    (project / "work/below/export.json").write_text("{}")
    asked = run(project / "work/below", "annotate", "import", "export.json")
    assert asked.stderr.startswith(f"heptune: {project}/work/below/export.json: "), asked.stderr
    assert [path.name for path in (project / "work/below").iterdir()] == ["export.json"]


def test_a_python_without_the_packages_is_told_how_to_get_them(tmp_path: Path) -> None:
    for module in ("flows", "flows.evaluation"):
        words = [sys.executable, "-I", "-S", "-c", f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); "
                 f"sys.argv[0] = '-m'; runpy.run_module({module!r}, run_name='__main__')"]  # fmt: skip
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("heptune: typer is not installed for ")
        assert "`make demo` makes the environment .venv" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "command"),
    [
        ("trian", "run fine_tuning"),
        ("evaluaton", "run evaluation"),
        ("serv", "serve"),
        ("pretrain_base", "pretrain-base"),
    ],
)
def test_an_unknown_command_is_answered_with_one_that_exists(word: str, command: str) -> None:
    assert f'no command "{word}"; did you mean `heptune {command}`?' in describe_unknown(
        word, ["serve", "pretrain-base"]
    )


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
