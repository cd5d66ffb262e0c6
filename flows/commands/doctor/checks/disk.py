"""Space and inodes where the stages write, against what a run of this base leaves."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts

# A run writes the pinned base, checkpoints with the optimizer's states, what was trained and the release.
COPIES = 4
LEAST_BYTES = 2**30
LEAST_INODES = 10_000
GIB = 2**30
# What stages and commands write into, and may be mounted or linked elsewhere.
PLACES = ("data", "models", "reports", ".dvc", str(artifacts.STATE))


def examine(here: Surroundings) -> Iterator[Finding]:
    copy = size_of_base(here)
    needed = {Path.cwd(): LEAST_BYTES + COPIES * copy, Path(tempfile.gettempdir()): LEAST_BYTES}
    needed |= dict.fromkeys(list_mounted(), LEAST_BYTES + copy)
    for place, wanted in needed.items():
        try:
            free, inodes = shutil.disk_usage(place).free, os.statvfs(place)
        except OSError as error:
            yield Finding("error", str(place), f"cannot be looked at ({error.strerror})", "mount or make it")
            continue
        if free < wanted:
            yield Finding(
                "error" if free < wanted / 2 else "warning", str(place),
                f"{free / GIB:.1f} GiB of space free; a run of this base wants about {wanted / GIB:.1f} GiB",
                "free some: `dvc gc -w` deletes what no commit of the workspace needs",
            )  # fmt: skip
        if inodes.f_files and inodes.f_favail < LEAST_INODES:
            yield Finding(
                "error" if not inodes.f_favail else "warning", str(place),
                f"room for {inodes.f_favail:,} more files (inodes); expected {LEAST_INODES:,} and more",
                "delete small files, such as old environments and caches",
            )  # fmt: skip


def list_mounted() -> list[Path]:
    """Folders of the checkout that lie on another disk than the checkout itself, one of each disk."""
    here = Path.cwd().stat().st_dev
    places = [
        folder for place in PLACES for folder in (Path(place), *sorted(Path(place).glob("*/"))) if folder.is_dir()
    ]
    disks = {folder.stat().st_dev: folder for folder in reversed(places)}
    return [folder for disk, folder in disks.items() if disk != here]


def size_of_base(here: Surroundings) -> int:
    """Bytes of the base's weights, as far as they are on this machine."""
    source = here.params.model_initialisation.source if here.params else None
    places = [artifacts.INITIAL, getattr(source, "path", None) or artifacts.BASE]
    for place in places:
        files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
        if files:
            return sum(path.stat().st_size for path in files)
    return 0
