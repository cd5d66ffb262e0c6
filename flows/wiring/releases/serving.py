"""The gateway connected to the registry: it serves the champion and swaps to a promoted release."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.processes import ProcessMark, end, has_process, mark_process, read_mark, show_mark
from flows.wiring.releases.registry import Registry
from tasks.contracts.errors import PipelineError
from tasks.gateway.releases import Resolve

if TYPE_CHECKING:
    from tasks.gateway.running import RunningGateway

HOST = "127.0.0.1"
PORT = 8000
STORE_VARIABLE = "HEPTUNE_STORE_URL"
MODEL = "model"
GATEWAYS = artifacts.STATE / "gateways"
STOP_TIMEOUT_S = 60.0
DAY_S = 24 * 3600.0


class NotedGateway(NamedTuple):
    """A gateway at work in this checkout: where it answers, and its process."""

    url: str
    mark: ProcessMark


def store_url() -> str:
    """URL of the request log: from the environment, because it may contain a password, else SQLite."""
    return os.environ.get(STORE_VARIABLE) or f"sqlite:///{artifacts.STORE.resolve()}"


def champion_of(registry: Registry) -> Resolve:
    """A resolver of the champion.

    Returns:
        A function that returns release hash and model folder, or raises PipelineError without a champion.
    """

    def resolve() -> tuple[str, Path]:
        champion = registry.resolve_champion()
        if champion is None:
            raise PipelineError(
                f'"{registry.model}" has no champion; run `heptune run`, `heptune register` and `heptune promote` first'
            )
        release, folder = champion
        return release, folder / MODEL

    return resolve


def serve(params: Params, host: str = HOST, port: int = PORT) -> None:
    """Serve the champion until SIGINT or SIGTERM.

    Raises:
        PipelineError: No champion, no keys on a public address, or the port is in use.
    """
    from tasks.gateway import running

    deployment = params.deployment
    resolve = champion_of(Registry(deployment.release.model))
    console = Console(stderr=True)
    with noted(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"):
        running.serve(
            deployment.gateway,
            resolve,
            host,
            port,
            store_url(),
            artifacts.SPOOL,
            artifacts.KEYS,
            artifacts.ADAPTERS,
            lambda url, release: console.print(f"release {release[:12]} answers at {url}/v1", soft_wrap=True),
        )


@contextmanager
def noted(url: str) -> Iterator[None]:
    """Leave a note of the gateway that this process is for others of the checkout, as long as it runs."""
    note = (GATEWAYS / f"{show_mark(mark_process(os.getpid()))}.json").resolve()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"url": url}), encoding="utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def list_gateways() -> list[NotedGateway]:
    """The gateways of this checkout on this machine, those that still load their model included; oldest first.

    Notes of killed ones are forgotten; those of other machines that share the folder stay.
    """
    found = []
    for path in GATEWAYS.glob("*.json"):
        mark = read_mark(path.stem)
        if mark is None or mark[2] != socket.gethostname():
            continue
        if not has_process(mark):
            path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):  # it has just ended, or is writing the note
            found.append(NotedGateway(str(json.loads(path.read_text(encoding="utf-8"))["url"]), mark))
    return sorted(found, key=lambda gateway: gateway.mark[1])


def stop_gateways() -> list[NotedGateway]:
    """End all gateways of this checkout on this machine, each after the requests at work; which those were."""
    import psutil

    found = list_gateways()
    processes = []
    for gateway in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(gateway.mark[0])
            if has_process(gateway.mark):
                processes.append(process)
    end(processes, STOP_TIMEOUT_S)
    return found


def purge_log(days: float | None = None, key: str | None = None) -> int:
    """Delete logged requests with the feedback on them; returns their number.

    Args:
        days: Age from which on they are deleted; by default ``log_days`` of params, and any age where a key is given.
        key: Name of a key, whose requests alone are deleted.

    Raises:
        PipelineError: There is no such key, nothing says what to delete, or the database does not answer.
    """
    from flows.wiring.params import read_params
    from tasks.gateway.api.keys import read_keys
    from tasks.gateway.request_log.store import open_store

    logged_as = None
    if key is not None:
        found = [known.logged_as for known in read_keys(artifacts.KEYS) if known.name == key]
        if not found:
            raise PipelineError(f'no key named "{key}"; `heptune keys list` shows them')
        logged_as = found[0]
    else:
        days = read_params().deployment.gateway.log_days if days is None else days
    if days is None and logged_as is None:
        raise PipelineError("deployment.gateway.log_days is null, so that no request is too old; say --days or --key")
    store = open_store(store_url())
    try:
        return store.delete_requests(None if days is None else time.time() - days * DAY_S, logged_as)
    finally:
        store.close()


@contextmanager
def serving(params: Params, port: int = 0) -> Iterator[RunningGateway]:
    """Serve the champion on loopback, in a thread, for the duration of a block."""
    from tasks.gateway import running

    deployment = params.deployment
    resolve = champion_of(Registry(deployment.release.model))
    with running.running_gateway(
        deployment.gateway, resolve, store_url(), artifacts.SPOOL, artifacts.KEYS, HOST, port, artifacts.ADAPTERS
    ) as gateway:
        yield gateway
