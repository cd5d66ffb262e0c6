"""A new champion is swapped in under load without a failed request; one that cannot be loaded is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tasks.contracts.errors import PipelineError
from tasks.gateway.answering import answer_all
from tasks.gateway.engine import EngineLoad
from tasks.gateway.releases import Releases
from tasks.gateway.request_log.store import open_store
from tasks.gateway.running import RunningGateway
from tests.tasks.gateway.conftest import start_gateway

ASK = [{"role": "user", "content": "stone river"}]
BODY = {"model": "heptune", "messages": ASK, "max_tokens": 16}


def ask(gateway: RunningGateway, **changes: object) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/chat/completions", json={**BODY, **changes}, timeout=60)


def wait_for(gateway: RunningGateway, **health: object) -> None:
    deadline = time.monotonic() + 60
    while not health.items() <= httpx.get(f"{gateway.url}/healthz").json().items():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def greedy_text(folder: Path) -> str:
    from transformers import AutoTokenizer

    ((_, tokens),) = answer_all(folder, [ASK], 16)
    text: str = AutoTokenizer.from_pretrained(folder).decode(tokens, skip_special_tokens=True)
    return text


def test_no_request_is_dropped_or_mixed_up_while_releases_change(
    tmp_path: Path, model: Path, other_model: Path
) -> None:
    folders = {"one": model, "two": other_model}
    expected = {name: greedy_text(folder) for name, folder in folders.items()}
    assert expected["one"] != expected["two"]
    champion = ["one"]
    with start_gateway(tmp_path, model, resolve=lambda: (champion[0], folders[champion[0]])) as gateway:
        old_engine = gateway.state.releases._current.engine
        answers: list[httpx.Response] = []
        ending = threading.Event()

        def load() -> None:
            while not ending.is_set():
                answers.append(ask(gateway))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for name in ("two", "one", "two"):
            champion[0] = name
            wait_for(gateway, release=name)
        ending.set()
        for thread in threads:
            thread.join()
        after = ask(gateway).json()
        page = httpx.get(f"{gateway.url}/metrics").text
    assert {answer.status_code for answer in answers} == {200}
    by_release = {answer.json()["system_fingerprint"] for answer in answers}
    assert by_release == {"one", "two"}
    for answer in answers:
        found = answer.json()
        assert found["choices"][0]["message"]["content"] == expected[found["system_fingerprint"]]
    assert after["choices"][0]["message"]["content"] == expected["two"]
    assert "heptune_swaps_total 3.0" in page
    assert 'heptune_release{release="two"} 1.0' in page
    assert 'heptune_release{release="one"}' not in page
    # Replaced engines are closed, which frees their weights.
    assert not old_engine.alive
    log = open_store(f"sqlite:///{tmp_path / 'requests.db'}").read_window()
    assert log.num_rows == len(answers) + 1


def test_a_stream_that_began_before_a_swap_ends_on_its_release(tmp_path: Path, model: Path, other_model: Path) -> None:
    champion = ["one", model]
    with start_gateway(tmp_path, model, resolve=lambda: tuple(champion)) as gateway:
        whole = ask(gateway, max_tokens=200).json()["choices"][0]["message"]["content"]
        slot = gateway.state.releases._current
        with gateway.state.releases.lease() as held:
            assert held is slot
            champion[:] = ["two", other_model]
            wait_for(gateway, release="two")
            time.sleep(0.2)
            assert slot.engine.alive
            assert gateway.state.releases.load() == EngineLoad(0, 0)
        deadline = time.monotonic() + 30
        while slot.engine.alive:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ask(gateway, max_tokens=200).json()["choices"][0]["message"]["content"] != whole


def test_a_release_that_cannot_be_loaded_is_refused_once_and_the_old_one_goes_on(
    tmp_path: Path, model: Path, other_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    champion = ["one", model]

    def resolve() -> tuple[str, Path]:
        if champion[0] == "gone":
            raise PipelineError("no champion")
        if champion[0] == "crash":
            raise ZeroDivisionError
        return champion[0], champion[1]  # type: ignore[return-value]

    with start_gateway(tmp_path, model, resolve=resolve) as gateway:
        champion[:] = ["two", tmp_path / "broken"]
        wait_for(gateway, refused_release="two", release="one", ready=True)
        time.sleep(0.3)
        assert "heptune_refused_releases_total 1.0" in httpx.get(f"{gateway.url}/metrics").text
        assert len([r for r in caplog.records if "no config.json" in r.getMessage()]) == 1
        for state in ("gone", "crash"):
            champion[0] = state
            time.sleep(0.2)
            assert ask(gateway).json()["system_fingerprint"] == "one"
        champion[:] = ["three", other_model]
        wait_for(gateway, release="three", refused_release=None, ready=True)


def test_a_gateway_without_a_release_does_not_start(tmp_path: Path) -> None:
    def resolve() -> tuple[str, Path]:
        raise PipelineError("no champion; promote one")

    with pytest.raises(PipelineError, match="no champion"):
        Releases(resolve, lambda folder: None)  # type: ignore[arg-type,return-value]


def test_a_signal_ends_the_foreground_server_after_its_answers(tmp_path: Path, model: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from tasks.gateway.params import Gateway
from tasks.gateway.running import serve
folder = Path({str(tmp_path)!r})
serve(Gateway(), lambda: ("one", Path({str(model)!r})), "127.0.0.1", 0, f"sqlite:///{{folder / 'requests.db'}}",
      folder / "spool.jsonl", folder / "keys.json", on_ready=lambda *ready: print(*ready, file=sys.stderr))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        assert process.stderr is not None
        url = next(line for line in process.stderr if line.startswith("http")).split()[0]
        statuses: list[int] = []

        def answer() -> None:
            body = {**BODY, "max_tokens": 200, "temperature": 1.0}
            statuses.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code)

        thread = threading.Thread(target=answer)
        thread.start()
        while "heptune_running 1.0" not in httpx.get(f"{url}/metrics").text and thread.is_alive():
            pass
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert statuses == [200]
    assert open_store(f"sqlite:///{tmp_path / 'requests.db'}").count() == 1
