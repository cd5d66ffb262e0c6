"""The hashes of a stage's dependencies and outs, as DVC knows them."""

from __future__ import annotations

import hashlib
import json
import subprocess

from flows.wiring.params import Params


def stage_hashes(stage: str) -> tuple[dict[str, str], dict[str, str]]:
    """Hashes of what a stage reads and of what it has written, by path, as ``dvc.lock`` holds them.

    Returns:
        Dependencies and outs; paths that do not exist are left out.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        loaded = repo.stage.load_one(name=stage)
        deps = {d.def_path: digest for d in loaded.deps if d.exists and (digest := _digest(d))}
        outs = {o.def_path: digest for o in loaded.outs if o.exists and (digest := _digest(o))}
    return deps, outs


def _digest(item: object) -> str | None:
    """MD5 of a file, or of a folder's listing (ending in ``.dir``); None for a params dependency."""
    from dvc.dependency.param import ParamsDependency

    if isinstance(item, ParamsDependency):
        return None
    value = item.get_hash().value  # type: ignore[attr-defined]
    return str(value) if value else None


def section_hash(params: Params, stage: str) -> str:
    """SHA-256 of a section's resolved values, defaults included."""
    values = getattr(params, stage).model_dump(mode="json")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def git_commit() -> str:
    """The commit of the checkout, with ``+changes`` when files differ from it, or ``none``."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode:
        return "none"
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False
    )
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
