"""One local Prefect server for everything that runs in a checkout, kept while a user of it lives.

Prefect would start a temporary server in every process, which costs seconds each. Instead the first process that needs
one starts one, and all share it: each user (a command, or the ``dvc`` process above a stage) leaves a file with its
mark, and the server (`flows.wiring.servers.serving_prefect`) ends when none of them is alive.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from flows.wiring import artifacts
from flows.wiring.processes import (
    ProcessMark,
    end_leftovers,
    end_marked,
    has_process,
    mark_process,
    read_mark,
    show_mark,
)
from flows.wiring.settings import lasting_environment
from tasks.contracts.errors import PipelineError

logger = logging.getLogger(__name__)

RECORD = artifacts.STATE / "prefect" / "server.json"
SERVER_LOG = artifacts.STATE / "prefect" / "server.log"
USERS = artifacts.STATE / "prefect" / "users"
OWNER = "HEPTUNE_OWNER"
START_TIMEOUT_S = 240.0
STARTS = 2
HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
PATIENCE_S = 30.0  # a busy server may take long to answer


@contextmanager
def prefect_at(url: str) -> Iterator[None]:
    """Run flows against the server at a URL.

    Heartbeats are off unless their variable is set: at the end of each flow Prefect waits for their thread, which
    sleeps for a second, and only an automation that looks for silent runs reads them.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    settings: dict[Any, Any] = {PREFECT_API_URL: url}
    if HEARTBEAT not in os.environ:
        settings[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None
    with temporary_settings(settings):
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_healthy(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


def answers(url: str) -> bool:
    """Whether a server answers, be it slowly; one that refuses the connection is asked once more."""
    import httpx

    deadline, refused = time.monotonic() + PATIENCE_S, 0
    while time.monotonic() < deadline and refused < 2:
        try:
            return httpx.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200
        except httpx.ConnectError:
            refused += 1
            time.sleep(1.0)
        except httpx.HTTPError:
            time.sleep(0.5)
    return False


def ensure_server(owner: ProcessMark | None = None, port: int = 0) -> str:
    """Use ``PREFECT_API_URL``, the checkout's running server, or start one; runs of killed processes end as Crashed.

    Args:
        owner: Process as long as whose life a server of this checkout is kept; this one by default.
        port: Where one is started, if none is up; 0: any free port.

    Returns:
        The API's URL, also put into the environment.

    Raises:
        PipelineError: The configured server does not answer, or none could be started.
    """
    end_leftovers()
    owner = owner or mark_process(os.getpid())
    if url := os.environ.get("PREFECT_API_URL"):
        if not answers(url):
            raise PipelineError(
                f"Prefect at {url} does not answer; start it, or unset PREFECT_API_URL to use a local one"
            )
        note_user(owner)
    else:
        url = use_server(owner, port)
        os.environ["PREFECT_API_URL"] = url
    from flows.wiring.servers.flow_runs import crash_ended_runs

    crash_ended_runs(url)
    return url


def use_server(owner: ProcessMark, port: int = 0) -> str:
    """The checkout's server, kept while the owner lives.

    Args:
        owner: A user of the server.
        port: Where one is started, if none is up; 0: any free port.

    Returns:
        The API's URL.

    Raises:
        PipelineError: None could be started.
    """
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(RECORD.with_suffix(".lock")):
        note_user(owner)
        if url := running_url(START_TIMEOUT_S):
            return url
        # A server may be killed while it starts, or lose its port to another program.
        for _ in range(STARTS):
            if url := start_server(port):
                return url
    raise PipelineError(
        f"the local Prefect server did not start, tried {STARTS} times; its log is {SERVER_LOG.resolve()}"
    )


def note_user(owner: ProcessMark) -> None:
    """Keep a server and a sender of this checkout while a process lives."""
    USERS.mkdir(parents=True, exist_ok=True)
    (USERS / show_mark(owner)).touch()


def running_url(timeout_s: float = 0.0) -> str | None:
    """URL of the checkout's server, if its process is still there.

    Args:
        timeout_s: Wait so long for its answer; one that does not answer then is ended.
    """
    url, mark = read_record()
    deadline = time.monotonic() + timeout_s
    while mark is not None and has_process(mark):
        if is_healthy(url):
            return url
        if time.monotonic() >= deadline:
            if timeout_s:
                end_marked(mark)
            return None
        time.sleep(0.1)
    return None


def is_running() -> bool:
    """Whether the process of the checkout's server is there, be it too busy to answer."""
    _, mark = read_record()
    return mark is not None and has_process(mark)


def read_record() -> tuple[str, ProcessMark | None]:
    """Where the checkout's server answers, and its process, as it noted them; none where it did not."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        return str(record["url"]), read_mark(str(record["server"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", None


def start_server(port: int = 0) -> str | None:
    """Start a server; its URL once it answers, None where it ended before."""
    RECORD.unlink(missing_ok=True)
    with SERVER_LOG.open("ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "flows.wiring.servers.serving_prefect", str(port)],
            env=lasting_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return None
        if RECORD.is_file() and (url := running_url()):
            return url
        time.sleep(0.1)
    server.kill()
    server.wait()
    return None


def has_users() -> bool:
    """Whether a process that uses this checkout is alive; ended ones are forgotten."""
    alive = False
    for path in USERS.glob("*"):
        mark = read_mark(path.name)
        if mark is not None and has_process(mark):
            alive = True
        else:
            path.unlink(missing_ok=True)
    return alive


def owner_above() -> ProcessMark:
    """The process that runs DVC around this stage: the pipeline or the ``dvc`` above, else this process."""
    import psutil

    if pipeline := read_mark(os.environ.get(OWNER, "")):
        return pipeline
    for parent in psutil.Process().parents():
        if any(Path(part).name == "dvc" for part in parent.cmdline()[:3]):
            return mark_process(parent.pid)
    return mark_process(os.getpid())
