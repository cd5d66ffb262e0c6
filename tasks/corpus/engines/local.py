"""The cores of this machine: processes of joblib's loky backend, one thread each.

Good for: up to a few million rows. Processes are started only when there are enough parts to be worth it.

Example: ``engine: {name: local, workers: 4}``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section

P = TypeVar("P")
R = TypeVar("R")

# Starting a process takes as long as cleaning some ten thousand rows.
FEWEST_PARTS = 8


class LocalEngine(Section):
    """Processes on this machine."""

    name: Literal["local"] = "local"
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="processes; auto: as many as this process may use cores; 1: none but its own"
    )
    rows_per_task: int = Field(default=20_000, ge=100, description="rows a process takes at a time")

    def count_workers(self) -> int:
        """Processes that may run."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cores if self.workers == "auto" else self.workers


class WorkerPool:
    """Parts on so many processes.

    Args:
        workers: Processes.
        rows: Rows that make a part.
        fewest: With fewer parts than this the work is done here.
    """

    def __init__(self, workers: int, rows: int, fewest: int = FEWEST_PARTS) -> None:
        self.workers = workers
        self.rows: int | None = rows if workers > 1 else None
        self.fewest = fewest

    def __call__(self, name: str, work: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        coming = iter(parts)
        first = list(islice(coming, self.fewest)) if self.workers > 1 else []
        every = chain(first, coming)
        if len(first) < self.fewest or self.workers == 1:
            return map(work, every)
        return self._spread(name, work, every)

    def _spread(self, name: str, work: Callable[[P], R], parts: Iterator[P]) -> Iterator[R]:
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky.process_executor import BrokenProcessPool

        # Few ahead, so that only so many parts are held.
        settings: dict[str, Any] = {"return_as": "generator", "pre_dispatch": "2*n_jobs", "batch_size": 1}
        try:
            with parallel_config("loky", n_jobs=self.workers, inner_max_num_threads=1):
                yield from Parallel(**settings)(delayed(work)(part) for part in parts)
        except BrokenProcessPool as error:
            raise PipelineError(
                f"{name}: a worker process died, most likely for want of memory; "
                "lower data_preparation.engine.rows_per_task or workers"
            ) from error
