"""Prefect and MLflow servers on loopback and free ports, ended with the block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flows.wiring.servers.server import free_port
from tests.flows.small import child_environment


@contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Prefect server: the address of its API, and its process."""
    port = port or free_port()
    words = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    extra = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with running(words, f"http://127.0.0.1:{port}/api/health", **extra) as process:
        yield f"http://127.0.0.1:{port}/api", process


@contextmanager
def mlflow_server(home: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server: its address, and its process."""
    port = port or free_port()
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "files")]
    extra = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with running(words, f"http://127.0.0.1:{port}/health", **extra) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def running(words: list[str], health: str, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """A module as a process that answers at ``health`` once the block begins."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**child_environment(), **extra},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not is_up(health):
            assert process.poll() is None, f"{words[0]} ended by itself"
            assert time.monotonic() < deadline, f"{words[0]} does not answer"
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a server and its workers at once, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_up(address: str) -> bool:
    try:
        return httpx.get(address, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
