"""Locks on builds of PyTorch's extensions (parts of DeepSpeed) whose builder was killed: later runs wait for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings


def examine(here: Surroundings) -> Iterator[Finding]:
    for lock in list_locks():
        if not is_open(lock):
            yield Finding(
                "warning",
                str(lock),
                "a build that was killed left this lock, and training with ZeRO waits for it without an end",
                f"`rm {lock}`",
            )


def list_locks() -> list[Path]:
    """The locks where PyTorch builds extensions, as `torch.utils.cpp_extension` has it."""
    own = os.environ.get("TORCH_EXTENSIONS_DIR")
    if own:
        return sorted(Path(own).glob("*/lock"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return sorted((cache / "torch_extensions").glob("*/*/lock"))  # a folder a Python, below it one a build


def is_open(lock: Path) -> bool:
    """Whether some process holds the file open, as a builder does until it is done."""
    there = lock.stat()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found = link.stat()
            if (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino):
                return True
    return False
