"""One pipeline at a time in a checkout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from flows.wiring import artifacts
from tasks.contracts.errors import PipelineError

LOCK = artifacts.STATE / "pipeline.lock"


@contextmanager
def one_at_a_time(wait: bool) -> Iterator[None]:
    """Hold the checkout for one pipeline.

    Raises:
        PipelineError: Another one is at work and ``wait`` is false.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    holder = LOCK.with_suffix(".pid")
    lock = FileLock(LOCK)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        pid = holder.read_text().strip() if holder.is_file() else "unknown"
        raise PipelineError(
            f"another pipeline is at work in this checkout (pid {pid}); wait for it, or run with --wait"
        ) from error
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
