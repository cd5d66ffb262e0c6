"""``heptune up``: a Prefect server with UI, a worker, the deployments with their automation, MLflow's UI, and reports.

Everything runs below this process, keeps its state under ``.heptune/`` and ends with it.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from flows.commands.answers import command
from flows.commands.deployments import POOL, deploy
from flows.commands.terminal import console
from flows.wiring import artifacts
from flows.wiring.processes import end, end_leftovers, leading, tie
from flows.wiring.runs import addresses
from flows.wiring.servers.server import SERVER_LOG, ensure_server, is_healthy, is_running, running_url
from flows.wiring.settings import configure
from flows.wiring.stopping import Stopped
from tasks.contracts.errors import PipelineError

logger = logging.getLogger(__name__)

app = typer.Typer()
LOGS = artifacts.STATE / "logs"
START_TIMEOUT_S = 240.0
WATCH_S = 2.0


@command(app)
def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's server and UI.")] = addresses.PREFECT_PORT,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = addresses.MLFLOW_PORT,
    reports_port: Annotated[
        int, typer.Option(help="Port of the reports and links of every run.")
    ] = addresses.REPORTS_PORT,
) -> None:
    """Prefect server, worker, deployments, automation, MLflow's UI and the reports of every run, until Ctrl-C."""

    def ready(served: Mapping[str, str]) -> None:
        for name, url in served.items():
            console.print(f"{name:<10}{url}")
        console.print("Ctrl-C ends everything started here.")

    bring_up(prefect_port, mlflow_port, reports_port, ready)


def bring_up(
    prefect_port: int = addresses.PREFECT_PORT,
    mlflow_port: int = addresses.MLFLOW_PORT,
    reports_port: int = addresses.REPORTS_PORT,
    ready: Callable[[Mapping[str, str]], None] | None = None,
) -> None:
    """Start everything, call ``ready`` with the addresses, and stay until a signal asks to end.

    With ``PREFECT_API_URL`` or an ``http`` ``MLFLOW_TRACKING_URI`` set, that server is used and none is
    started here. A Prefect server of this checkout that other commands use ends after them.

    Raises:
        PipelineError: A port is taken, or one of the processes did not start or ended by itself.
    """
    root = configure()
    os.chdir(root)
    from flows.wiring.params import read_params
    from flows.wiring.servers.flow_runs import crash_ended_runs

    params = read_params()
    LOGS.mkdir(parents=True, exist_ok=True)
    end_leftovers()
    import psutil

    children: list[subprocess.Popen[bytes]] = []
    with leading():
        try:
            configured = os.environ.get("PREFECT_API_URL")
            served = {
                "Prefect": start_prefect(prefect_port),
                "MLflow": start_mlflow(mlflow_port, children),
                "Reports": start_reports(reports_port, children),
            }
            addresses.note_addresses({name.lower(): url for name, url in served.items()})
            schedules = deploy(root, params)
            children.append(start_child("worker", prefect("worker", "start", "--pool", POOL)))
            for line in schedules:
                console.print(line)
            if ready:
                ready(served)
            url = os.environ["PREFECT_API_URL"]
            while all(process.poll() is None for process in children) and (configured or is_running()):
                time.sleep(WATCH_S)
                # A run that was cancelled in Prefect may have had no time to end its stages there.
                crash_ended_runs(url)
            raise PipelineError(f"a server ended by itself; its log is in {LOGS.resolve()} or {SERVER_LOG.resolve()}")
        except Stopped:
            return
        finally:
            end([psutil.Process(process.pid) for process in children if process.poll() is None])


def start_prefect(port: int) -> str:
    """A Prefect server on loopback for every command of this checkout; its address."""
    if configured := os.environ.get("PREFECT_API_URL"):
        if not is_healthy(configured):
            raise PipelineError(f"Prefect at {configured} does not answer; start it, or unset PREFECT_API_URL")
        return configured.removesuffix("/api")
    if url := running_url():
        raise PipelineError(f"a Prefect server of this checkout already answers at {url}; end that command first")
    require_free(port, "--prefect-port")
    return ensure_server(port=port).removesuffix("/api")


def start_mlflow(port: int, children: list[subprocess.Popen[bytes]]) -> str:
    """MLflow's UI on loopback, unless a server is configured; its address."""
    store = os.environ["MLFLOW_TRACKING_URI"]
    if store.startswith("http"):
        return store
    require_free(port, "--mlflow-port")
    place = (artifacts.STATE / "mlflow-artifacts").resolve().as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store, "--default-artifact-root", place, "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    process = start_child("mlflow", command, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    children.append(process)
    wait_for(lambda: answers(f"{url}/health"), process, "mlflow")
    return url


def start_reports(port: int, children: list[subprocess.Popen[bytes]]) -> str:
    """The reports and links of every run of this checkout, on loopback; the address."""
    require_free(port, "--reports-port")
    process = start_child("reports", [sys.executable, "-m", "flows.wiring.browsing.site", str(port)])
    children.append(process)
    url = f"{addresses.HOST}:{port}"
    wait_for(lambda: answers(f"{url}/health"), process, "reports")
    return url


def prefect(*words: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *words]


def start_child(name: str, command: list[str], **extra: str) -> subprocess.Popen[bytes]:
    """A process with its log in ``.heptune/logs`` that does not outlive this one."""
    with (LOGS / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            tie(command),
            env={**os.environ, **extra},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


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
