"""What reaches git: never what customers wrote; DVC keeps it, and a retrain's commit has its hashes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flows.wiring.versions.commit import commit_inputs
from tests.checkout import ROOT
from tests.flows.small import child_environment

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
TEXTS = (
    "data/raw/feedback/2026-01-01.jsonl",
    "data/raw/annotation/labels.jsonl",
    "data/raw/support.csv",
    "data/raw/synthetic/synthetic.jsonl",
    "data/production/window.parquet",
    "data/prepared/train.parquet",
    "reports/evaluation/predictions.parquet",
    "dvc_plots/index.html",
    ".heptune/requests.db",
    ".heptune/requests.spool.jsonl",
    ".heptune/logs/gateway.log",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with DVC in it, as a user has it after feedback came in."""
    for name in (".gitignore", ".dvcignore", "dvc.yaml", "params.yaml", "data/raw/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "begin"]):
        subprocess.run([*GIT, *words], cwd=tmp_path, check=True)
    for name in TEXTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("what a customer wrote")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@localhost")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, env=child_environment(), check=True, capture_output=True, text=True)
    return done.stdout


def test_adding_everything_adds_no_text_of_a_customer(checkout: Path) -> None:
    (checkout / "data/raw/gate/approvals").mkdir(parents=True)
    (checkout / "data/raw/gate/approvals/one.json").write_text("{}")
    assert run(checkout, "git", "add", "-A", "-n").splitlines() == ["add 'data/raw/gate/approvals/one.json'"]
    run(checkout, "dvc", "add", "-q", "data/raw/support.csv")
    assert "add 'data/raw/support.csv.dvc'" in run(checkout, "git", "add", "-A", "-n").splitlines()


def test_a_retrain_commits_hashes_and_dvc_keeps_the_texts(checkout: Path) -> None:
    run(checkout, "dvc", "add", "-q", "data/raw/support.csv")
    commit = commit_inputs("new words")
    assert commit is not None
    changed = run(checkout, "git", "show", "--name-only", "--format=", commit).split()
    assert changed == ["data/raw.dvc", "data/raw/support.csv.dvc"]
    held = run(checkout, "git", "show", f"{commit}:data/raw.dvc")
    assert [line.split()[-1] for line in held.splitlines() if "path:" in line] == [
        "raw/annotation", "raw/feedback", "raw/synthetic"
    ]  # fmt: skip
    assert commit_inputs("new words") == commit

    (checkout / TEXTS[0]).with_name("2026-01-02.jsonl").write_text("more")
    second = commit_inputs("new words")
    assert run(checkout, "git", "rev-parse", f"{second}~1").strip() == commit
    shutil.rmtree(checkout / "data/raw/feedback")
    run(checkout, "dvc", "checkout", "-q", "data/raw.dvc")
    assert (checkout / "data/raw/feedback/2026-01-02.jsonl").read_text() == "more"
    assert (checkout / TEXTS[0]).read_text() == "what a customer wrote"
    assert run(checkout, "git", "status", "--short", "--untracked-files=all").splitlines() == [
        "?? data/raw.dvc", "?? data/raw/support.csv.dvc"
    ]  # fmt: skip
