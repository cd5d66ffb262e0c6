"""One local Prefect server for everything that runs in a checkout, kept while its owner lives.

Prefect would start a temporary server in every process, which costs seconds each. Instead the first
process that needs one starts a keeper; the keeper ends the server when the owner (the command line,
or the ``dvc`` process above a stage) has ended.
"""

from __future__ import annotations

import json
import logging
import os
import signal
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
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError

logger = logging.getLogger(__name__)

RECORD = artifacts.STATE / "prefect" / "server.json"
START_TIMEOUT_S = 240.0
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


def ensure_server(owner: int) -> str:
    """Use ``PREFECT_API_URL``, the checkout's running server, or start one.

    Args:
        owner: Process whose end ends a server started here.

    Returns:
        The API's URL, also put into the environment.

    Raises:
        PipelineError: The configured server does not answer, or none could be started.
    """
    if configured := os.environ.get("PREFECT_API_URL"):
        if not answers(configured):
            raise PipelineError(
                f"Prefect at {configured} does not answer; start it, or unset PREFECT_API_URL to use a local one"
            )
        return configured
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(RECORD.with_suffix(".lock")):
        url = running_url() or start_keeper(owner)
    os.environ["PREFECT_API_URL"] = url
    return url


def running_url() -> str | None:
    """URL of the checkout's server, if it still answers."""
    try:
        url: str = json.loads(RECORD.read_text())["url"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    return url if is_healthy(url) else None


def start_keeper(owner: int) -> str:
    RECORD.unlink(missing_ok=True)
    log = RECORD.with_name("server.log")
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "flows.wiring.server", str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if url := running_url():
            return url
        if keeper.poll() is not None:
            break
        time.sleep(0.1)
    raise PipelineError(f"the local Prefect server did not start; its log is {log.resolve()}")


def keep(owner: int) -> None:
    """Run a server until the owner has ended (the keeper's own main)."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_UI_API_URL": url}
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    RECORD.write_text(json.dumps({"url": url, "keeper": os.getpid(), "server": server.pid, "owner": owner}))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while is_alive(owner) and server.poll() is None:
            time.sleep(0.5)
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
        RECORD.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def owner_above() -> int:
    """The process that runs DVC around this stage: the pipeline or the ``dvc`` above, else this process."""
    import psutil

    pipeline = int(os.environ.get("HEPTUNE_OWNER", 0))
    if pipeline and psutil.pid_exists(pipeline):
        return pipeline
    for parent in psutil.Process().parents():
        if any(Path(part).name == "dvc" for part in parent.cmdline()[:3]):
            return parent.pid
    return os.getpid()


if __name__ == "__main__":
    configure()
    keep(int(sys.argv[1]))
