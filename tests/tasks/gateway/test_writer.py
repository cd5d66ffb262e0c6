"""The thread of the request log survives what disks and files do to it, and says so."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tasks.gateway.request_log.spool import Spool
from tasks.gateway.request_log.store import Store, open_store
from tasks.gateway.request_log.tables import request_row
from tasks.gateway.request_log.writer import RequestWriter
from tests.tasks.gateway.test_store import make_request, read_refused, wait_until

LINES = {
    "no object": b"[1, 2]",
    "a text": b'"request"',
    "a number": b"7",
    "a kind that is none": b'["drop", {}]',
    "a row that is none": b'["request", [1]]',
    "torn": b'["request",{"id":"r7"',
    "no UTF-8": b'["request",{"id":"\xff\xfe"}]',
    "nothing of a row": b'["request",{}]',
    "a number for a text": b'["feedback",{"request_id":7,"label":"x","given_at":1}]',
    "a text for a number": b'["feedback",{"request_id":"r1","label":"x","given_at":"now"}]',
    "a column too many": b'["feedback",{"request_id":"r1","label":"x","given_at":1,"colour":"red"}]',
    "an infinite number": b'["feedback",{"request_id":"r1","label":"x","given_at":1e999}]',
    "a huge number": orjson.dumps(["request", {**request_row(make_request(7)), "status": 2**63}]),
    "prompts that are no turns": orjson.dumps(["request", {**request_row(make_request(7)), "messages": "[1]"}]),
    "deeply nested": b"[" * 5000,
    "long": b'["request", "' + b"x" * 3_000_000 + b'"]',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_is_no_row_is_set_aside_and_the_log_goes_on(tmp_path: Path, line: bytes) -> None:
    spool = tmp_path / "spool.jsonl"
    Spool(spool).append([("request", request_row(make_request(1)))])
    with spool.open("ab") as stream:
        stream.write(line + b"\n\n")
    Spool(spool).append([("request", request_row(make_request(2)))])
    store = open_store(f"sqlite:///{tmp_path / 'requests.db'}")
    writer = RequestWriter(store, spool)
    writer.log(make_request(3))
    assert writer.flush()
    assert store.read_window()["id"].to_pylist() == ["r1", "r2", "r3"]
    state = writer.state()
    assert (state.refused, state.lost, state.database_up, state.problem) == (1, 0, True, "")
    (refused,) = read_refused(tmp_path)
    assert refused["reason"]
    assert line[:50].decode("utf-8", "backslashreplace") in refused["line"]
    writer.close()
    assert not list(tmp_path.glob("spool*"))


def test_spool_lines_of_an_earlier_version_are_rows(tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    old = {"request_id": "r1", "correction": "c", "label": None, "given_at": 1.0}
    Spool(spool).append([("request", request_row(make_request(1))), ("feedback", old)])
    store = open_store(f"sqlite:///{tmp_path / 'requests.db'}")
    RequestWriter(store, spool).close()
    assert store.read_window()["correction"].to_pylist() == ["c"]


def test_rows_stay_in_memory_while_neither_database_nor_disk_can_be_written(tmp_path: Path) -> None:
    """A folder where database and spool should be: nothing is lost, the log says so, and recovers by itself."""
    home = tmp_path / "home"
    home.write_text("no folder")
    store = open_store(f"sqlite:///{home / 'requests.db'}")
    writer = RequestWriter(store, home / "spool.jsonl", retry_s=0.02)
    for number in range(1200):
        writer.log(make_request(number))
    assert writer.flush()
    state = writer.state()
    assert (state.pending, state.lost, state.spooled, state.written) == (1200, 0, 0, 0)
    assert state.problem
    assert not state.database_up
    assert writer.find_owner("r7") == (None,)
    home.unlink()
    wait_until(lambda: writer.state().written == 1200)
    wait_until(lambda: not writer.state().problem)
    assert writer.state().database_up
    assert store.count() == 1200
    assert writer.find_owner("r7") is None
    writer.close()
    assert (writer.state().lost, writer.state().pending) == (0, 0)


@pytest.mark.parametrize("broken", ["renamed", "take", "append_lines"])
def test_the_log_survives_any_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'requests.db'}")
    writer = RequestWriter(store, tmp_path / "spool.jsonl", retry_s=0.02)
    assert writer.flush()

    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Spool, broken, fail)
        patched.setattr(Store, "insert", fail)
        writer.log(make_request(1))
        assert writer.flush()
        assert "Too many open files" in writer.state().problem
        assert writer.alive
    writer.log(make_request(2))
    wait_until(lambda: store.count() == 2)
    wait_until(lambda: not writer.state().problem)
    writer.close()


def test_an_error_nobody_foresaw_does_not_end_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'requests.db'}")
    writer = RequestWriter(store, tmp_path / "spool.jsonl", retry_s=0.02)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "forget", lambda self: 1 / 0)
        patched.setattr(Store, "insert", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        writer.log(make_request(1))
        assert writer.flush()
        assert "ZeroDivisionError" in writer.state().problem
    wait_until(lambda: writer.state().written == 1)
    writer.close()


def test_part_of_a_batch_is_not_left_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    spool = Spool(tmp_path / "spool.jsonl")
    spool.append([("request", request_row(make_request(1)))])
    before = spool.path.read_bytes()

    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        spool.append([("request", request_row(make_request(2)))])
    assert spool.path.read_bytes() == before
