"""Commits changed inputs to a separate git branch, without touching the checked-out branch.

Raw data that git ignores, such as what customers wrote, never enters git: DVC keeps them, and the commit has their
hashes in ``data/raw.dvc``. ``dvc push`` and ``dvc pull`` bring them elsewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flows.wiring import artifacts
from flows.wiring.lock import one_at_a_time
from flows.wiring.versions.dvc_repository import open_repository
from flows.wiring.versions.lineage import is_tracked
from tasks.contracts.errors import PipelineError

INPUTS = (artifacts.PARAMS, artifacts.RAW, artifacts.RAW_HASHES, artifacts.CHAMPION, artifacts.SOURCE, artifacts.LOCK)
PREFIX = "retrain/"


def commit_inputs(reason: str, paths: Sequence[Path] = INPUTS) -> str | None:
    """Commit the inputs as they are now to the branch ``retrain/<reason>``.

    The working tree, the index and the checked-out branch stay as they are. Without changes there is no new commit.

    Returns:
        The branch's commit, or None where this is no git repository.

    Raises:
        PipelineError: A git command failed, or DVC could not keep the raw data.
    """
    if not is_repository():
        return None
    keep_ignored_data()
    branch = f"refs/heads/{branch_name(reason)}"
    parent = git("rev-parse", "--verify", "--quiet", branch, check=False) or git("rev-parse", "HEAD")
    existing = [str(path) for path in paths if path.exists() and not is_ignored(path)]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git("read-tree", parent, index=index)
        if existing:
            git("add", "--all", "--", *existing, index=index)
        tree = git("write-tree", index=index)
    if tree == git("rev-parse", f"{parent}^{{tree}}"):
        return parent
    commit = git("commit-tree", tree, "-p", parent, "-m", f"Retrain: {reason}")
    git("update-ref", branch, commit)
    return commit


def keep_ignored_data() -> None:
    """Have DVC keep what git ignores of the raw data, and write its hashes to ``data/raw.dvc``.

    What was given to DVC by ``dvc add`` is left alone.

    Raises:
        PipelineError: There is no DVC here, or it failed.
    """
    ignored = [
        path
        for path in sorted(artifacts.RAW.glob("[!.]*"))
        if is_ignored(path) and not path.with_name(f"{path.name}.dvc").exists()
    ]
    if not ignored:
        return
    import yaml
    from dvc.exceptions import DvcException

    outs = [{"path": path.relative_to(artifacts.RAW_HASHES.parent).as_posix()} for path in ignored]
    with one_at_a_time(wait=True):
        artifacts.RAW_HASHES.write_text(yaml.safe_dump({"outs": outs}), encoding="utf-8")
        try:
            with open_repository() as repo:
                repo.commit(str(artifacts.RAW_HASHES), force=True)
        except DvcException as error:
            reason = " ".join(str(error).split())
            raise PipelineError(
                f"{artifacts.RAW_HASHES}: DVC: {reason}; correct it or set monitoring.retraining.commit: false"
            ) from error


def branch_name(reason: str) -> str:
    """``retrain/`` and the reason's words, at most 60 characters."""
    words = re.sub(r"[^a-z0-9]+", "-", reason.lower()).strip("-")[:60].strip("-")
    return f"{PREFIX}{words or 'by-hand'}"


def is_repository() -> bool:
    """Whether the working directory is a git checkout with a commit, and not a copy in another project's repository."""
    return is_tracked() and bool(git("rev-parse", "--verify", "--quiet", "HEAD", check=False))


def is_ignored(path: Path) -> bool:
    return bool(git("check-ignore", "--", str(path), check=False))


def git(*arguments: str, check: bool = True, index: Path | None = None) -> str:
    """Output of a git command, on an index of its own if given; "" when it fails and ``check`` is off."""
    environment = {"GIT_INDEX_FILE": str(index)} if index else {}
    try:
        done = subprocess.run(
            ["git", *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise PipelineError("git: not installed; install it or set monitoring.retraining.commit: false") from error
    if done.returncode:
        if check:
            message = " ".join(done.stderr.split()) or f"exit {done.returncode}"
            raise PipelineError(f"git {arguments[0]}: {message}; correct it or set monitoring.retraining.commit: false")
        return ""
    return done.stdout.strip()
