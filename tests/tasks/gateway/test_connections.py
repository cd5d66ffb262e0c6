"""One client must not lock out the others: half-sent requests, huge heads, clients that do not read, shutdown."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from tasks.gateway.api.connections import BACKLOG, RESERVED_HANDLES, ConnectionLimits, fit_to_handles
from tasks.gateway.running import RunningGateway
from tests.tasks.gateway.conftest import start_gateway

HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Len"
HALF_BODY = HALF + b'gth: 100\r\n\r\n{"model": '


@pytest.fixture
def small(tmp_path: Path, model: Path) -> Iterator[RunningGateway]:
    """A gateway with tight limits."""
    limits = {"max_connections": 8, "head_timeout_s": 1.0, "body_timeout_s": 1.0, "write_timeout_s": 1.0}
    with start_gateway(tmp_path, model, **limits) as gateway:
        yield gateway


def connect(gateway: RunningGateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=15)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def test_half_sent_requests_make_room_for_whole_ones(small: RunningGateway) -> None:
    waiting = []
    for number in range(40):
        connection = connect(small)
        connection.sendall(HALF_BODY if number % 2 else HALF)
        waiting.append(connection)
        if number % 10 == 9:
            assert httpx.get(f"{small.url}/healthz", timeout=10).json()["status"] == "ok"
    for connection in waiting:
        connection.close()


def test_heads_and_bodies_have_deadlines(small: RunningGateway) -> None:
    began = time.monotonic()
    with connect(small) as silent, connect(small) as head, connect(small) as body:
        head.sendall(HALF)
        body.sendall(HALF_BODY)
        assert b" 408 " in read_all(head).splitlines()[0]
        answer = read_all(body)
        assert b" 408 " in answer.splitlines()[0]
        assert b"body_timeout" in answer
        read_all(silent)
    assert time.monotonic() - began < 10


def test_a_head_that_trickles_in_has_one_deadline(small: RunningGateway) -> None:
    began = time.monotonic()
    with connect(small) as connection:
        connection.sendall(HALF)
        try:
            while time.monotonic() - began < 10:
                connection.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass
    assert time.monotonic() - began < 8


def test_the_bytes_of_a_head_are_limited(small: RunningGateway) -> None:
    with connect(small) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        sent = 0
        try:
            while sent < 20_000_000:
                sent += connection.send(b"x-filler: " + b"y" * 4000 + b"\r\n")
        except OSError:
            pass
        assert sent < 5_000_000
    with connect(small) as connection:
        # More than one read takes, so that the whole head is never there at once.
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nx: " + b"y" * 20_000)
        assert b" 400 " in read_all(connection).splitlines()[0]


def test_a_body_sent_after_a_refusal_does_not_keep_the_connection(tmp_path: Path, model: Path) -> None:
    from tasks.gateway.api.keys import add_key

    add_key(tmp_path / "keys.json", "ci")
    with start_gateway(tmp_path, model, head_timeout_s=1.0) as gateway, connect(gateway) as connection:
        head = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        assert b" 401 " in connection.recv(4096).splitlines()[0]
        began = time.monotonic()
        try:
            while time.monotonic() - began < 10:
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - began < 8


def test_a_client_that_does_not_read_its_answers_is_disconnected(small: RunningGateway) -> None:
    requests = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50
    with connect(small) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        with pytest.raises(ConnectionError):
            send_without_reading(connection, requests)


def send_without_reading(connection: socket.socket, requests: bytes) -> None:
    """Send until the server disconnects: it has some thousand answers to make first, so no time is promised."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            connection.sendall(requests)
        except TimeoutError:
            time.sleep(0.1)


def test_more_connections_than_files_are_not_promised() -> None:
    limits = ConnectionLimits(10**9, 1, 1, 1)
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY:
        assert fit_to_handles(limits).connections <= max(16, allowed - RESERVED_HANDLES - BACKLOG)
    assert fit_to_handles(ConnectionLimits(1, 1, 1, 1)).connections == 1


SERVER = """
import sys
from pathlib import Path
from tasks.gateway.params import Gateway
from tasks.gateway.running import serve
folder, model = Path(sys.argv[1]), Path(sys.argv[2])
serve(Gateway(), lambda: ("release", model), "127.0.0.1", 0, f"sqlite:///{folder / 'requests.db'}",
      folder / "spool.jsonl", folder / "keys.json", on_ready=lambda url, release: print(url, flush=True))
"""


@pytest.mark.parametrize(
    ("sent", "number"),
    [(HALF, signal.SIGTERM), (HALF_BODY, signal.SIGHUP), (b"", signal.SIGTERM)],
    ids=["half a head", "half a body", "nothing"],
)
def test_a_signal_ends_the_gateway_although_a_client_owes_the_rest(
    tmp_path: Path, model: Path, sent: bytes, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), str(model)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        while httpx.get(f"{url}/healthz", timeout=60).status_code != 200:
            time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(sent)
            time.sleep(0.3)
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(30) == 0
            assert time.monotonic() - began < 8
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_files_run_out_and_the_log_recovers(tmp_path: Path, model: Path) -> None:
    """300 half-sent requests in a process that may open 300 files: others are answered, and logged."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", limit + SERVER, str(tmp_path), str(model)], stdout=subprocess.PIPE, text=True
    )
    waiting = []
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        port = int(url.rsplit(":", 1)[1])
        for _ in range(300):
            connection = socket.create_connection(("127.0.0.1", port), timeout=15)
            connection.sendall(HALF)
            waiting.append(connection)
        body = {"model": "heptune", "messages": [{"role": "user", "content": "stone"}], "max_tokens": 1}
        answers = [httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        feedback = {"request_id": answers[0].json()["id"], "label": "ask"}
        assert httpx.post(f"{url}/v1/feedback", json=feedback, timeout=30).status_code == 200
        deadline = time.monotonic() + 20
        while (health := httpx.get(f"{url}/healthz", timeout=30).json())["status"] != "ok" or health["log"]["pending"]:
            assert time.monotonic() < deadline, health
            time.sleep(0.2)
        assert health["ready"]
        assert (health["log"]["lost"], health["log"]["spooled"]) == (0, 0)
    finally:
        for connection in waiting:
            connection.close()
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
    from tasks.gateway.request_log.store import open_store

    window = open_store(f"sqlite:///{tmp_path / 'requests.db'}").read_window()
    assert window["label"].to_pylist() == ["ask", None, None]
    assert orjson.dumps(window["status"].to_pylist()) == b"[200,200,200]"
