"""The gateway follows the registry: the champion answers, a promotion and a rollback are swapped in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from flows.wiring.processes import mark_process, show_mark
from flows.wiring.releases.registry import Registry
from flows.wiring.releases.serving import GATEWAYS, STORE_VARIABLE, champion_of, list_gateways, stop_gateways, store_url
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.deployment.release import seal_release
from tasks.gateway.params import Gateway
from tasks.gateway.running import running_gateway
from tests.checkout import ROOT
from tests.tiny import make_tiny_model


def make_release(folder: Path, model: Path, champion: str | None) -> Path:
    """A sealed release of a model that was proven better than a champion."""
    shutil.copytree(model, folder / "model")
    verdict = folder.with_suffix(".json")
    write_json(verdict, {"verdict": "promote", "reasons": [], "champion": champion})
    seal_release(folder, verdict, {"model": "heptune"})
    return folder


def wait_for(url: str, release: str) -> None:
    deadline = time.monotonic() + 60
    while httpx.get(f"{url}/healthz").json()["release"] != release:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_champion_answers_and_its_successor_is_swapped_in(tmp_path: Path, tiny_model: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).create_experiment("heptune", str(tmp_path / "mlartifacts"))
    registry = Registry("heptune", tmp_path / "releases", uri)
    resolve = champion_of(registry)
    with pytest.raises(PipelineError, match="no champion"):
        resolve()
    registry.register(make_release(tmp_path / "first", tiny_model, None))
    first = registry.promote().release
    # The gateway looks with a registry of its own, as another process does.
    watched = champion_of(Registry("heptune", tmp_path / "releases", uri))
    with running_gateway(
        Gateway(poll_s=0.05), watched, f"sqlite:///{tmp_path / 'requests.db'}", tmp_path / "spool", tmp_path / "keys"
    ) as gateway:
        wait_for(gateway.url, first)
        other = make_tiny_model(tmp_path / "other", seed=1)
        registry.register(make_release(tmp_path / "second", other, first))
        assert httpx.get(f"{gateway.url}/healthz").json()["release"] == first
        second = registry.promote().release
        wait_for(gateway.url, second)
        body = {"model": "heptune", "messages": [{"role": "user", "content": "stone"}], "max_tokens": 2}
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=60)
        assert answer.json()["system_fingerprint"] == second != first
        registry.rollback()
        wait_for(gateway.url, first)


def test_the_store_is_the_environments_or_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    assert store_url() == f"sqlite:///{Path('.heptune/requests.db').resolve()}"
    monkeypatch.setenv(STORE_VARIABLE, "postgresql://me:secret@host/db")
    assert store_url() == "postgresql://me:secret@host/db"


def test_every_gateway_of_the_checkout_is_found_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other terminals; a killed one and one of another machine are not taken for one that runs."""
    monkeypatch.chdir(tmp_path)
    code = "from time import sleep; from flows.wiring.releases.serving import noted\n"
    code += "with noted('http://127.0.0.1:{}'): sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", code.format(port)], env=environment) for port in (7001, 7002)]
    try:
        deadline = time.monotonic() + 120
        while len(list_gateways()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        pid, began, host = mark_process(os.getpid())
        for stranger in ((pid, began + 5, host), (pid, began, "elsewhere")):
            (GATEWAYS / f"{show_mark(stranger)}.json").write_text('{"url": "http://127.0.0.1:7003"}')
        ended = stop_gateways()
        assert {gateway.mark[0] for gateway in ended} == {process.pid for process in processes}
        assert {gateway.url for gateway in ended} == {"http://127.0.0.1:7001", "http://127.0.0.1:7002"}
        assert all(process.wait(30) is not None for process in processes)
        assert list_gateways() == stop_gateways() == []
        assert [path.name for path in GATEWAYS.iterdir()] == [f"{show_mark((pid, began, 'elsewhere'))}.json"]
    finally:
        for process in processes:
            process.kill()
