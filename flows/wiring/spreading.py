"""Where work on one row at a time goes: this machine's cores, or a Ray cluster through Prefect's Ray task runner."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tasks.contracts.errors import PipelineError
from tasks.corpus.engines import AnyEngine
from tasks.corpus.engines.local import LocalEngine, WorkerPool
from tasks.corpus.engines.ray import Ray
from tasks.corpus.engines.spread import Spread

P = TypeVar("P")
R = TypeVar("R")

# A part is tried so often again: by Ray when its worker dies, by Prefect when it fails.
RETRIES = 3
CONNECT_S = 10
# Objects a cluster that was started here may hold, bytes.
OBJECT_STORE = 1024**3


@contextmanager
def spreading(engine: AnyEngine) -> Iterator[Spread]:
    """The engine of the params, ready for work.

    Raises:
        PipelineError: Ray is not installed, or no cluster answers at the address.
    """
    if isinstance(engine, LocalEngine):
        yield WorkerPool(engine.count_workers(), engine.rows_per_task)
        return
    with connected(engine), ray_runner(engine) as runner:
        yield RayTasks(runner, engine.workers, engine.rows_per_task)


@contextmanager
def connected(engine: Ray) -> Iterator[None]:
    """A connection to the cluster of the address."""
    try:
        import prefect_ray  # noqa: F401
        import ray
    except ImportError as error:
        raise PipelineError(
            "data_preparation.engine is ray, and Ray is not installed; pip install 'heptune[ray]'"
        ) from error
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, engine)
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _connect(ray: Any, engine: Ray) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "namespace": "heptune"}
    if engine.address != "auto":
        _require_answer(engine.address)
        ray.init(address=engine.address, **settings)
        return
    try:
        ray.init(address="auto", **settings)
    except ConnectionError:
        ray.init(
            address="local",
            num_cpus=engine.workers,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _node_ip_address="127.0.0.1",
            **settings,
        )


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    where = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((where.hostname or "", where.port or 10001), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"no Ray cluster answers at {address} ({error}); "
            "start one (ray start --head), or correct data_preparation.engine.address"
        ) from error


def ray_runner(engine: Ray) -> Any:
    """Prefect's task runner on the cluster that this process is connected to."""
    from prefect_ray import RayTaskRunner

    return RayTaskRunner(address=engine.address)


class RayTasks:
    """Parts as Prefect task runs on Ray.

    Args:
        runner: Prefect's Ray task runner, started.
        workers: Parts at work at a time.
        rows: Rows that make a part.
    """

    def __init__(self, runner: Any, workers: int, rows: int) -> None:
        self.runner = runner
        self.workers = workers
        self.rows: int | None = rows

    def __call__(self, name: str, work: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        import cloudpickle
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect_ray.context import remote_options

        made: Any = task(
            name=f"{name} part", cache_policy=NO_CACHE, persist_result=False, retries=RETRIES, log_prints=False
        )
        do = made(do_part)
        waiting: deque[Any] = deque()
        for part in parts:
            if len(waiting) == 2 * self.workers:
                yield cloudpickle.loads(waiting.popleft().result())
            # As bytes, since Prefect looks for futures in everything else.
            with remote_options(max_retries=RETRIES, num_cpus=1):
                waiting.append(self.runner.submit(do, {"packed": cloudpickle.dumps((work, part))}))
        while waiting:
            yield cloudpickle.loads(waiting.popleft().result())


def do_part(packed: bytes) -> bytes:
    """One part, on whatever node."""
    import cloudpickle

    work, part = cloudpickle.loads(packed)
    done: bytes = cloudpickle.dumps(work(part))
    return done
