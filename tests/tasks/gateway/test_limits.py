"""Hosts, keys, feedback and long prompts: what one client may do to the others."""

from __future__ import annotations

import math
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tasks.gateway.api.host import names_this_machine
from tasks.gateway.api.keys import Keyring, add_key, remove_key
from tasks.gateway.batching.prompt_length import cannot_fit, longest_token
from tasks.gateway.batching.sampling import make_generator, sample_token
from tasks.gateway.completions import cut_turns
from tasks.gateway.engine import Sampling
from tasks.gateway.request_log.store import Store
from tasks.gateway.running import RunningGateway
from tests.tasks.gateway.conftest import start_gateway

GOOD_HOSTS = [b"127.0.0.1", b"127.0.0.1:8000", b"localhost", b"LocalHost:80", b"[::1]", b"[::1]:8000", b"127.8.9.1"]
BAD_HOSTS = [
    b"127.0.0.1:abc", b"[::1", b"user@127.0.0.1", b"127.0.0.1.", b"localhost.", b"", b"127.0.0.1:", b"127.0.0.1:99999",
    b"127.0.0.1:80:80", b"evil.example", b"127.0.0.1.evil.example", b"localhost@evil.example", b"[::1]evil.example",
    b"127.1", b"0177.0.0.1", b"2130706433", b"0.0.0.0", b"127.0.0.1/evil", b"127.0.0.1 ", b"\xe9", b"::1", b"[::2]",
    b"127.0.0.1, evil.example", b"localhost\\evil",
]  # fmt: skip


def ask(gateway: RunningGateway, key: str | None = None, **changes: Any) -> httpx.Response:
    body = {"model": "heptune", "messages": [{"role": "user", "content": "stone"}], "max_tokens": 1, **changes}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=bearer(key), timeout=60)


def bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def give(gateway: RunningGateway, request_id: str, key: str | None = None, **feedback: Any) -> httpx.Response:
    body = {"request_id": request_id, **(feedback or {"correction": "right"})}
    return httpx.post(f"{gateway.url}/v1/feedback", json=body, headers=bearer(key), timeout=60)


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_names_of_this_machine(host: bytes) -> None:
    assert names_this_machine([host])


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_other_and_malformed_hosts(host: bytes) -> None:
    assert not names_this_machine([host])


def test_hosts_are_checked_on_every_route_where_keys_are_off(gateway: RunningGateway) -> None:
    assert not names_this_machine([])
    assert not names_this_machine([b"127.0.0.1", b"127.0.0.1"])
    port = int(gateway.url.rsplit(":", 1)[1])
    for path in ("/healthz", "/v1/models", "/metrics"):
        lines = ["Host: 127.0.0.1:abc", "Host: [::1", "Host: user@127.0.0.1", "Host: localhost.", "Host:"]
        for head in (*lines, "Host: 127.0.0.1\r\nHost: evil.example", "X: no host"):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n".encode())
                status = connection.recv(4096).split()[1]
                assert status in (b"400", b"403"), (path, head)


def test_the_first_key_protects_a_running_gateway(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "keys.json"
    with start_gateway(tmp_path, model) as gateway:
        assert ask(gateway).status_code == 200
        key = add_key(path, "first")
        assert ask(gateway).status_code == 401
        assert ask(gateway, key).status_code == 200
        # A file that is torn, no list, a folder or not for us: the keys stay, and health says so.
        good = path.read_bytes()
        for broken in (b"", b"\xff\xfe"):
            path.write_bytes(broken)
            assert ask(gateway, key).status_code == 200
            assert ask(gateway).status_code == 401
            health = httpx.get(f"{gateway.url}/healthz").json()
            assert (health["ready"], health["status"]) == (True, "degraded")
            assert "keys.json" in health["problems"][0]
            path.write_bytes(good)
            time.sleep(1.1)
            assert ask(gateway, key).status_code == 200
            assert httpx.get(f"{gateway.url}/healthz").json()["status"] == "ok"
        path.unlink()
        path.mkdir()
        assert ask(gateway, key).status_code == 200
        path.rmdir()
        remove = Keyring(path, required=False)
        assert not remove.required


def test_broken_keys_are_kept_out_and_a_restart_does_not_open_the_gateway(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "only")
    ring = Keyring(path, required=False)
    for broken in ("", "{", '{"a": 1}', "[1]", '[{"id": 1}]', "null", '[{"id": "a", "name": "b", "sha256": "c"}]'):
        path.write_text(broken)
        assert ring.find(key) is not None
        assert "keys.json" in ring.problem
    path.write_text("[]")
    ring = Keyring(path, required=False)
    assert ring.required
    with start_gateway(tmp_path, model) as gateway:
        assert ask(gateway).status_code == 401


def test_two_commands_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [threading.Thread(target=add_key, args=(path, f"key {n}")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not Keyring(path, required=False).is_empty()
    for number in range(12):
        remove_key(path, f"key {number}")
    assert path.stat().st_mode & 0o777 == 0o600


def test_feedback_belongs_to_the_key_of_its_request(tmp_path: Path, model: Path) -> None:
    mine, theirs = add_key(tmp_path / "keys.json", "mine"), add_key(tmp_path / "keys.json", "theirs")
    with start_gateway(tmp_path, model, max_feedback_per_hour=3) as gateway:
        answer = ask(gateway, mine).json()["id"]
        assert give(gateway, answer, theirs, correction="poison").status_code == 404
        assert gateway.state.writer.flush()
        assert give(gateway, answer, theirs, correction="poison").status_code == 404
        assert give(gateway, answer).status_code == 401
        assert give(gateway, answer, mine).status_code == 200
        assert give(gateway, answer, theirs, correction="poison").status_code == 404
        gateway.state.writer.flush()
        assert gateway.state.writer.store.read_window()["correction"].to_pylist() == ["right"]
        # The quota is one key's.
        assert [give(gateway, answer, mine).status_code for _ in range(3)] == [200, 200, 429]
        refused = give(gateway, answer, mine)
        assert refused.json()["error"]["code"] == "feedback_quota"
        assert 1 <= int(refused.headers["retry-after"]) <= 3601
        other = ask(gateway, theirs).json()["id"]
        assert give(gateway, other, theirs).status_code == 200


@pytest.mark.parametrize("label", ["", " ", "a\nb", "a\0b", "\x1b[31m", "\u2028", "x" * 257])
def test_labels_that_are_no_names_are_refused(gateway: RunningGateway, label: str) -> None:
    assert give(gateway, "any", label=label).status_code == 400


@pytest.mark.parametrize("label", ["$\\frac{x$", "<script>", "%s", "😀", "مرحبا", "a b", "-1"])
def test_other_labels_are_taken_as_they_are(gateway: RunningGateway, label: str) -> None:
    answer = ask(gateway).json()["id"]
    assert give(gateway, answer, label=label).status_code == 200
    gateway.state.writer.flush()
    rows = {row["id"]: row for row in gateway.state.writer.store.read_window().to_pylist()}
    assert rows[answer]["label"] == label


def test_feedback_is_taken_while_the_database_can_be_read_but_not_written(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "insert", refuse)
        with start_gateway(tmp_path, model) as gateway:
            answer = ask(gateway).json()["id"]
            gateway.state.writer.flush()
            assert gateway.state.writer.state().spooled == 1
            assert give(gateway, answer).status_code == 200
            health = httpx.get(f"{gateway.url}/healthz").json()
            assert (health["ready"], health["status"]) == (True, "degraded")
        # The next process finds the request in the spool.
        with start_gateway(tmp_path, model) as gateway:
            gateway.state.writer.flush()
            assert give(gateway, answer, label="late").status_code == 200
            assert give(gateway, "unknown").status_code == 404
    with start_gateway(tmp_path, model) as gateway:
        gateway.state.writer.flush()
        window = gateway.state.writer.store.read_window()
        assert (window["correction"].to_pylist(), window["label"].to_pylist()) == (["right"], ["late"])


def test_a_streamed_answer_may_get_feedback_at_once(gateway: RunningGateway) -> None:
    for _ in range(5):
        lines = ask(gateway, stream=True).text.splitlines()
        request_id = lines[0].split('"id":"')[1].split('"')[0]
        assert give(gateway, request_id).status_code == 200


def test_long_prompts_are_refused_before_they_are_encoded(gateway: RunningGateway) -> None:
    """24 clients with 900 kB each: all refused, another one is answered meanwhile, and the log keeps little of it."""
    engine = gateway.state.releases._current.engine
    encoded: list[int] = []
    whole = engine.encode
    engine.encode = lambda messages: encoded.append(1) or whole(messages)  # type: ignore[method-assign,func-returns-value]
    texts = ["stone " * 150_000, "x" * 900_000, " " * 900_000, "\n" * 400_000]
    statuses: list[int] = []

    def flood(number: int) -> None:
        messages = [{"role": "user", "content": texts[number % len(texts)]}]
        statuses.append(ask(gateway, messages=messages).status_code)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(24)]
    try:
        for thread in threads:
            thread.start()
        began = time.monotonic()
        assert ask(gateway).status_code == 200
        waited = time.monotonic() - began
        for thread in threads:
            thread.join()
    finally:
        engine.encode = whole  # type: ignore[method-assign]
    assert statuses == [400] * 24
    assert len(encoded) == 1
    assert waited < 5
    gateway.state.writer.flush()
    rows = gateway.state.writer.store.read_window(status=400).to_pylist()
    assert len(rows) >= 24
    assert max(len(turn["content"]) for row in rows for turn in row["messages"]) < 1100


def test_many_short_messages_are_refused_too(gateway: RunningGateway) -> None:
    answer = ask(gateway, messages=[{"role": "user", "content": ""}] * 20_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_an_error_does_not_repeat_a_long_text(gateway: RunningGateway) -> None:
    for changes in ({"model": "x" * 100_000}, {"y" * 100_000: 1}):
        assert len(ask(gateway, **changes).content) < 2000


def test_prompts_are_counted_in_pieces_and_no_further_than_needed() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return len(text) // 4

    assert not cannot_fit(["a" * 399], 100, 10, count)
    assert not counted
    assert cannot_fit(["a" * 1001], 100, 10, count)
    assert cannot_fit([""] * 101, 100, 10, count)
    assert not counted
    assert not cannot_fit(["a" * 400, "b" * 50], 100, 10, count)
    assert cannot_fit(["a" * 100_000], 100, 10_000, count)
    assert sum(counted[2:]) <= 800
    assert longest_token(["a", "abc", ""]) == 3


def test_what_the_log_keeps_of_a_refused_conversation() -> None:
    turns = [{"role": "user", "content": "a" * 990}, {"role": "user", "content": "b" * 500}]
    kept = cut_turns(turns)
    assert kept[0] == turns[0]
    assert kept[1]["content"] == "b" * 10 + "… (490 characters cut)"
    assert len(cut_turns([{"role": "user", "content": ""}] * 9999)) == 20


@pytest.mark.parametrize("top_p", [1e-46, 1e-300, 5e-324, 1e-8])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 1e-30, 5e-324, 1e-6])
def test_extreme_sampling_takes_the_most_likely_token(top_p: float, temperature: float) -> None:
    logits = torch.tensor([1.0, 3.0, -math.inf, 2.9, -1e30])
    for seed in range(20):
        sampling = Sampling(temperature, top_p, seed)
        assert sample_token(logits, sampling, make_generator(sampling)) == 1


def test_a_tiny_temperature_alone_takes_the_most_likely_token() -> None:
    logits = torch.tensor([1e4, 3.0, -math.inf, 9999.0])
    for seed in (-(2**63), -1, 0, 2**63 - 1):
        sampling = Sampling(1e-30, 1.0, seed)
        assert sample_token(logits, sampling, make_generator(sampling)) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_p", 0), ("top_p", 1.1), ("temperature", -1), ("top_k", 1), ("min_p", 0.1), ("temperature", True)],
)
def test_sampling_outside_its_range_is_refused(gateway: RunningGateway, field: str, value: object) -> None:
    answer = ask(gateway, **{field: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    for raw in (b"NaN", b"Infinity", b"1e999"):
        body = b'{"model": "heptune", "messages": [{"role": "user", "content": "a"}], "temperature": ' + raw + b"}"
        sent = httpx.post(
            f"{gateway.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert sent.status_code == 400
