"""The parts of DeepSpeed that are compiled on the machine where they are first used.

PyTorch guards a build by a file ``lock`` beside it, which a process that is killed leaves behind; every later start
then waits for it without end and without a word. And ranks that wait for a compiler count against the time that they
give each other. So a build that was broken off is told before a rank starts, and what is missing is built before.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError

logger = logging.getLogger(__name__)

# Between the lock and the compiler, and between the compiler and the end, seconds.
GRACE_S = 120.0


def find_broken_builds() -> list[str]:
    """Locks of DeepSpeed's builds that no process of this machine is at work behind; a sentence each."""
    return [
        f"{lock}: left by a build of DeepSpeed's {lock.parent.name} that was broken off, and each start would wait "
        f"for it without end; remove it: rm -r {shlex.quote(str(lock.parent))}"
        for lock in _list_locks()
        if not _is_at_work(lock)
    ]


def build(builder: Any) -> None:
    """Compile and load an operator of DeepSpeed's, which is kept for later starts.

    Args:
        builder: One of ``deepspeed.ops.op_builder``.

    Raises:
        PipelineError: It cannot be compiled here.
    """
    if not any(folder.joinpath(f"{builder.name}.so").exists() for folder in _list_folders(builder.name)):
        logger.info("building %s of DeepSpeed, once on this machine; this takes minutes", builder.name)
    try:
        builder.load(verbose=False)
    except (RuntimeError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise PipelineError(
            f"distribution: DeepSpeed's {builder.name} cannot be built here ({reason}); install a C++ compiler (g++) "
            "and its libraries, or take cpu"
        ) from error


def _list_locks() -> Iterator[Path]:
    from deepspeed.ops.op_builder.all_ops import ALL_OPS

    for name in ALL_OPS:
        yield from (lock for folder in _list_folders(name) if (lock := folder / "lock").exists())


def _list_folders(name: str) -> list[Path]:
    """Where PyTorch keeps an operator that this Python built, for whatever device."""
    from torch.utils.cpp_extension import get_default_build_root

    if own := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return [Path(own) / name]
    python = f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}"
    return sorted(Path(get_default_build_root()).glob(f"{python}_*/{name}"))


def _is_at_work(lock: Path) -> bool:
    import psutil

    try:
        if time.time() - lock.stat().st_mtime < GRACE_S:
            return True
    except FileNotFoundError:
        return True
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == lock.parent:
                return True
    return False
