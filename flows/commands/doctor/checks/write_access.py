"""Whether the folders that stages and commands write into can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts

FOLDERS = (
    *("data", "models", "reports", ".dvc"),
    *(str(place) for place in (artifacts.STATE, artifacts.CHECKPOINTS, artifacts.PREPARED, artifacts.RAW)),
)


def examine(here: Surroundings) -> Iterator[Finding]:
    told = set[Path]()
    for folder in (Path(), *map(Path, FOLDERS)):
        problem = find_problem(folder)
        if problem and not told & {folder, *folder.parents[:-1]}:
            told.add(folder)
            yield Finding("error", str(folder) if folder != Path() else str(Path.cwd()), *problem)
    for path in (artifacts.PARAMS, artifacts.LOCK):
        if path.exists() and not os.access(path, os.W_OK):
            yield Finding("error", str(path), "may not be written", f"`chmod u+w {path}`, as its owner")


def find_problem(folder: Path) -> tuple[str, str] | None:
    """What is wrong with a folder and what to do; None where it can be written, or does not exist yet."""
    if folder.is_symlink() and not folder.exists():
        return f"is a link to {folder.readlink()}, which is not there", "mount that disk, or remove the link"
    if not folder.exists():
        return None
    if not folder.is_dir():
        return "is a file; expected a folder", "move it away"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror})", f"`chown -R $USER {folder.resolve()}`, or mount it for writing"
