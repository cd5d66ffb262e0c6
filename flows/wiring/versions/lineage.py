"""The hashes of a stage's dependencies and outs, as DVC wrote them into ``dvc.lock``."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.wiring import artifacts

if TYPE_CHECKING:
    from flows.wiring.params import Params

# DVC writes the file in pieces; younger than this it may be half written.
SETTLED_S = 0.2

Hashes = tuple[dict[str, str], dict[str, str]]


def describe_written(stage: str) -> dict[str, str]:
    """What tells later whether DVC's entry is of this run: the figures, and ``dvc.lock`` before DVC wrote it."""
    figures = artifacts.metrics(stage)
    digest = hashlib.md5(figures.read_bytes(), usedforsecurity=False).hexdigest() if figures.is_file() else ""
    return {"figures": digest, "lock": _stamp(artifacts.LOCK)}


def find_hashes(stage: str, written: Mapping[str, str], complete: bool) -> Hashes | None:
    """Hashes of what a stage read and wrote, by path, once DVC has put them into ``dvc.lock``.

    Args:
        stage: The stage.
        written: `describe_written` at the end of the stage.
        complete: Whether DVC has ended, so that the file is whole.

    Returns:
        Dependencies and outs, or None where the entry of this run is not there.
    """
    if not artifacts.LOCK.is_file() or _stamp(artifacts.LOCK) == written.get("lock"):
        return None
    if not complete and time.time() - artifacts.LOCK.stat().st_mtime < SETTLED_S:
        return None
    entry = _read_stages(artifacts.LOCK).get(stage, {})
    outs = _digests(entry, "outs")
    if outs.get(artifacts.metrics(stage).as_posix()) != written.get("figures"):
        return None
    return _digests(entry, "deps"), outs


def find_inputs(stage: str) -> dict[str, str]:
    """Hashes, by path, of the dependencies that other stages wrote: all that is known of a stage that failed."""
    locked = _read_stages(artifacts.LOCK)
    made = {path: digest for entry in locked.values() for path, digest in _digests(entry, "outs").items()}
    deps = _read_stages(artifacts.PIPELINE).get(stage, {}).get("deps", [])
    return {path: made[path] for path in deps if isinstance(path, str) and path in made}


def _stamp(path: Path) -> str:
    """Another text whenever the file was written."""
    if not path.is_file():
        return "missing"
    status = path.stat()
    return f"{status.st_ino} {status.st_mtime_ns} {status.st_size}"


def _read_stages(path: Path) -> dict[str, Any]:
    """The stages of ``dvc.yaml`` or ``dvc.lock``; none where the file is missing or being written."""
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    stages = values.get("stages") if isinstance(values, dict) else None
    return stages if isinstance(stages, dict) else {}


def _digests(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    """MD5 of a file, or of a folder's listing (ending in ``.dir``), by path."""
    return {item["path"]: item["md5"] for item in entry.get(kind, []) if "md5" in item}


def section_hash(params: Params, stage: str) -> str:
    """SHA-256 of a section's resolved values, defaults included."""
    values = getattr(params, stage).model_dump(mode="json")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def git_commit() -> str:
    """The commit of the checkout, with ``+changes`` when files differ from it.

    ``none`` without git, and where the checkout was only copied into another project's repository.
    """
    if not is_tracked():
        return "none"
    # No tag matches, so that the commit itself is what describes the checkout.
    words = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    described = subprocess.run(words, capture_output=True, text=True, check=False)
    return "none" if described.returncode else described.stdout.strip()


def is_tracked() -> bool:
    """Whether git is here, and its repository holds this checkout."""
    words = ["git", "ls-files", "--error-unmatch", artifacts.PIPELINE.name]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:  # no git on this machine
        return False
