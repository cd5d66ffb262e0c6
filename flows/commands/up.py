"""``heptune up``: a Prefect server with UI, a worker, the deployments with their automation, and MLflow's UI.

Everything runs below this process, keeps its state under ``.heptune/`` and ends with it.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from flows.commands.terminal import console
from flows.wiring import artifacts
from flows.wiring.server import RECORD, is_healthy, running_url
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError

logger = logging.getLogger(__name__)

POOL = "heptune"
app = typer.Typer()
LOGS = artifacts.STATE / "logs"
START_TIMEOUT_S = 240.0


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's server and UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
) -> None:
    """Prefect server, worker, deployments, automation and MLflow's UI, until Ctrl-C."""

    def ready(addresses: Mapping[str, str]) -> None:
        for name, url in addresses.items():
            console.print(f"{name:<10}{url}")
        console.print("Ctrl-C ends everything started here.")

    bring_up(prefect_port, mlflow_port, ready)


def bring_up(
    prefect_port: int = 4200,
    mlflow_port: int = 5000,
    ready: Callable[[Mapping[str, str]], None] | None = None,
) -> None:
    """Start everything, call ``ready`` with the addresses, and stay until SIGINT or SIGTERM.

    With ``PREFECT_API_URL`` or an ``http`` ``MLFLOW_TRACKING_URI`` set, that server is used and none is
    started here.

    Raises:
        PipelineError: A port is taken, or one of the processes did not start or ended by itself.
    """
    root = configure()
    os.chdir(root)
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        watched: list[subprocess.Popen[bytes]] = []
        addresses = {"Prefect": stack.enter_context(prefect_server(prefect_port, watched))}
        if os.environ["MLFLOW_TRACKING_URI"].startswith("http"):
            addresses["MLflow"] = os.environ["MLFLOW_TRACKING_URI"]
        else:
            addresses["MLflow"] = stack.enter_context(mlflow_ui(mlflow_port, watched))
        deploy(root)
        stack.enter_context(child("worker", prefect("worker", "start", "--pool", POOL), watched))
        if ready:
            ready(addresses)
        try:
            while all(process.poll() is None for process in watched):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return
        raise PipelineError(f"a server ended by itself; its log is in {LOGS.resolve()}")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def prefect_server(port: int, watched: list[subprocess.Popen[bytes]]) -> Iterator[str]:
    """A Prefect server on loopback, announced to every command of this checkout."""
    if configured := os.environ.get("PREFECT_API_URL"):
        if not is_healthy(configured):
            raise PipelineError(f"Prefect at {configured} does not answer; start it, or unset PREFECT_API_URL")
        yield configured.removesuffix("/api")
        return
    if url := running_url():
        raise PipelineError(f"a Prefect server of this checkout already answers at {url}; end that command first")
    require_free(port, "--prefect-port")
    url = f"http://127.0.0.1:{port}/api"
    command = prefect("server", "start", "--host", "127.0.0.1", "--port", str(port))
    with child("prefect", command, watched, PREFECT_UI_API_URL=url) as process:
        wait_for(lambda: is_healthy(url), process, "prefect")
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps({"url": url, "keeper": os.getpid(), "server": process.pid, "owner": os.getpid()}))
        os.environ["PREFECT_API_URL"] = url
        try:
            yield url.removesuffix("/api")
        finally:
            RECORD.unlink(missing_ok=True)
            del os.environ["PREFECT_API_URL"]


@contextmanager
def mlflow_ui(port: int, watched: list[subprocess.Popen[bytes]]) -> Iterator[str]:
    require_free(port, "--mlflow-port")
    store = os.environ["MLFLOW_TRACKING_URI"]
    place = (artifacts.STATE / "mlflow-artifacts").resolve().as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store, "--default-artifact-root", place, "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    with child("mlflow", command, watched, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as process:
        wait_for(lambda: answers(f"{url}/health"), process, "mlflow")
        yield url


def deploy(root: Path) -> None:
    """Create the work pool and all deployments; doing it again changes nothing."""
    environment = {**os.environ, "HEPTUNE_ROOT": str(root)}
    steps = (
        prefect("work-pool", "create", POOL, "--type", "process", "--overwrite"),
        prefect("--no-prompt", "deploy", "--all"),
    )
    for command in steps:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            (LOGS / "deploy.log").write_text(done.stdout + done.stderr)
            raise PipelineError(f"`{' '.join(command[2:])}` failed; see {(LOGS / 'deploy.log').resolve()}")


def prefect(*words: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *words]


@contextmanager
def child(
    name: str, command: list[str], watched: list[subprocess.Popen[bytes]], **extra: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its log in ``.heptune/logs``, ended with the block."""
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **extra},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    watched.append(process)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PipelineError(f"port {port} is taken; end what uses it, or choose another with {option}") from error


def answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return
        time.sleep(0.2)
    raise PipelineError(f"{name} did not start; its log is {(LOGS / f'{name}.log').resolve()}")
