"""The base model: complete by its headers, nothing loaded; and the pinned copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, read_manifest

POINTER = b"version https://git-lfs"


def examine(here: Surroundings) -> Iterator[Finding]:
    from tasks.model_initialisation.checks import check_folder
    from tasks.model_initialisation.sources.folder import Folder

    source = here.params.model_initialisation.source if here.params else Folder()
    # A folder that is not there is told with the other inputs of params.
    if isinstance(source, Folder) and source.path.is_dir():
        pointers = list(find_pointers(source.path))
        for path in pointers:
            found = "is a pointer of git LFS and not the file itself"
            yield Finding("error", str(path), found, "`git lfs install && git lfs pull`")
        if not pointers:
            try:
                check_folder(source.path)
            except PipelineError as error:
                found, _, fix = str(error).partition(": ")[2].partition(" Next: ")
                yield Finding("error", str(source.path), found.rstrip("."), fix or "download the model again")
    if artifacts.INITIAL.is_dir() and any(artifacts.INITIAL.iterdir()):
        try:
            read_manifest(artifacts.INITIAL)
        except PipelineError as error:
            problem = str(error).splitlines()[-1].removeprefix("  - ")
            place, _, found = problem.partition(": ")
            yield Finding(
                "warning", place, found.rpartition("; ")[0] or found, "`heptune run model_initialisation --force`"
            )


def find_pointers(folder: Path) -> Iterator[Path]:
    """Files of which a clone without git LFS has but the address."""
    for path in sorted(folder.iterdir()):
        if path.name != NAME and path.is_file() and path.stat().st_size < 1024:
            with path.open("rb") as stream:
                if stream.read(len(POINTER)) == POINTER:
                    yield path
