"""What is logged comes back, in order, from SQLite and from a real PostgreSQL; an outage loses no row."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import REQUESTS, Message, RequestLog
from tasks.gateway.request_log.spool import Spool, read_batches
from tasks.gateway.request_log.store import Store, open_store
from tasks.gateway.request_log.tables import check_entry, feedback_row, request_row
from tasks.gateway.request_log.writer import RequestWriter, Retention
from tests.postgres import Database


def make_request(number: int, received_at: float | None = None, **changes: object) -> RequestLog:
    values: dict[str, object] = {
        "id": f"r{number}",
        "received_at": float(number) if received_at is None else received_at,
        "model": "heptune",
        "release": "abc",
        "messages": [Message(role="user", content=f"question {number}")],
        "answer": f"answer {number}",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "latency_ms": 1.5,
        "status": 200,
    }
    return RequestLog.model_validate({**values, **changes})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each kind, with a way to take it away."""
    if request.param == "postgresql":
        found: Database = request.getfixturevalue("postgres")
        with open_store(found.url).engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS requests, feedback")
        return found
    folder = tmp_path / "sqlite"
    folder.mkdir()

    def stop() -> None:
        folder.rename(tmp_path / "away")
        folder.write_text("a file where the folder was")

    def start() -> None:
        folder.unlink()
        (tmp_path / "away").rename(folder)

    return Database(f"sqlite:///{folder / 'requests.db'}", stop, start)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    opened = open_store(database.url)
    yield opened
    opened.close()


def wait_until(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_refused(folder: Path) -> list[dict[str, str]]:
    path = folder / "refused-spool.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


def test_a_window_is_ordered_bounded_and_carries_feedback(store: Store) -> None:
    # Two at the same moment: the id decides, and capitals sort before small letters on every database.
    logs = [make_request(n) for n in (3, 1, 4, 2)]
    logs += [make_request(5, 2.0, id="R2"), make_request(6, release="other", status=429)]
    store.insert([request_row(log) for log in logs], [])
    store.write_feedback("r2", correction="better")
    store.write_feedback("r2", label="open_hours")
    store.write_feedback("r3", label="late_fee")

    def ids(**bounds: object) -> list[str]:
        return store.read_window(**bounds)["id"].to_pylist()  # type: ignore[arg-type]

    assert ids() == ["r1", "R2", "r2", "r3", "r4", "r6"]
    assert ids(since=2.0, until=4.0) == ["R2", "r2", "r3"]
    assert ids(limit=2) == ["r4", "r6"]
    assert ids(release="other") == ["r6"]
    assert ids(status=200) == ["r1", "R2", "r2", "r3", "r4"]
    window = store.read_window()
    assert window.schema == REQUESTS
    rows = {row["id"]: row for row in window.to_pylist()}
    assert (rows["r2"]["correction"], rows["r2"]["label"]) == ("better", "open_hours")
    assert (rows["r3"]["correction"], rows["r3"]["label"]) == (None, "late_fee")
    assert rows["r1"]["messages"] == [{"role": "user", "content": "question 1"}]
    assert (store.count(), store.count(release="other"), store.count(since=4.0)) == (6, 1, 2)


def test_rows_written_twice_are_there_once_and_old_feedback_does_not_win(store: Store) -> None:
    row = request_row(make_request(1))
    old = feedback_row("r1", "first", None)
    new = {**feedback_row("r1", "second", None), "given_at": old["given_at"] + 1}
    store.insert([row], [new])
    store.insert([row, request_row(make_request(2))], [old])
    assert store.read_window()["correction"].to_pylist() == ["second", None]


def test_text_no_database_takes_is_kept_as_far_as_it_can_be(store: Store) -> None:
    nasty = "nul \0, half a pair \ud800, quote ' \" \\ \u2028 \U0001f600"
    log = make_request(1, answer=nasty, model=nasty)
    log = log.model_copy(update={"messages": [Message.model_construct(role="user", content=nasty)]})
    store.insert([request_row(log)], [])
    row = store.read_window().to_pylist()[0]
    expected = "nul \ufffd, half a pair ?, quote ' \" \\ \u2028 \U0001f600"
    assert row["answer"] == row["model"] == row["messages"][0]["content"] == expected


def test_feedback_needs_a_request_and_something_to_say(store: Store) -> None:
    with pytest.raises(PipelineError, match="no request r9"):
        store.write_feedback("r9", label="x")
    store.insert([request_row(make_request(1))], [])
    with pytest.raises(PipelineError, match="is empty"):
        store.write_feedback("r1")


def test_an_outage_loses_no_row_and_the_counts_are_true(database: Database, tmp_path: Path) -> None:
    store, spool = open_store(database.url), tmp_path / "spool.jsonl"
    writer = RequestWriter(store, spool, retry_s=0.05)
    writer.log(make_request(1))
    assert writer.flush()
    assert store.count() == 1
    database.stop()  # type: ignore[operator]
    try:
        for number in range(2, 40):
            writer.log(make_request(number))
        assert writer.flush(60)
        state = writer.state()
        assert (state.written, state.spooled, state.pending, state.database_up) == (1, 38, 0, False)
        writer.feedback("r2", "right", None)
        assert writer.flush(60)
    finally:
        database.start()  # type: ignore[operator]
    wait_until(lambda: writer.state().replayed == 39)
    writer.log(make_request(40))
    writer.close()
    state = writer.state()
    assert (state.written, state.spooled, state.lost, state.refused, state.pending) == (41, 39, 0, 0, 0)
    assert state.database_up
    window = store.read_window()
    assert window["id"].to_pylist() == [f"r{n}" for n in range(1, 41)]
    assert window["correction"].to_pylist()[1] == "right"
    assert not list(tmp_path.glob("spool*"))
    store.close()


def test_the_next_process_replays_what_one_left_behind_even_a_torn_line(database: Database, tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    Spool(spool).append([("request", request_row(make_request(n))) for n in (1, 2)])
    # Half of what was being replayed, and a line that a crash cut off.
    Spool(spool).take()
    spool.write_bytes(b'["request",{"id":"r7"')
    Spool(spool).append([("request", request_row(make_request(n))) for n in (2, 3)])
    store = open_store(database.url)
    writer = RequestWriter(store, spool)
    writer.close()
    assert store.read_window()["id"].to_pylist() == ["r1", "r2", "r3"]
    # The torn line is kept with its reason.
    assert (writer.state().refused, writer.state().lost, writer.state().replayed) == (1, 0, 4)
    (refused,) = read_refused(tmp_path)
    assert refused["line"].strip() == '["request",{"id":"r7"'
    assert refused["reason"].startswith("not JSON")
    assert not list(tmp_path.glob("spool*"))
    store.close()


def test_one_bad_row_is_set_aside_and_the_others_are_written(database: Database, tmp_path: Path) -> None:
    store = open_store(database.url)
    writer = RequestWriter(store, tmp_path / "spool.jsonl")
    bad = request_row(make_request(2))
    bad["received_at"] = None
    writer._put(("request", request_row(make_request(1))))
    writer._put(("request", bad))
    writer._put(("request", request_row(make_request(3))))
    writer.close()
    assert store.read_window()["id"].to_pylist() == ["r1", "r3"]
    assert (writer.state().written, writer.state().refused) == (2, 1)
    (refused,) = read_refused(tmp_path)
    assert orjson.loads(refused["line"]) == ["request", bad]
    assert "NULL" in refused["reason"] or "null" in refused["reason"]
    store.close()


def test_a_full_queue_and_a_full_disk_are_counted(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'missing' / 'file' / 'requests.db'}")
    (tmp_path / "missing").write_text("no folder")
    spool = tmp_path / "closed" / "spool.jsonl"
    (tmp_path / "closed").write_text("no folder either")
    writer = RequestWriter(store, spool, capacity=1)
    for number in range(5):
        writer.log(make_request(number))
    writer.close()
    state = writer.state()
    assert (state.lost, state.written, state.spooled, state.pending) == (5, 0, 0, 0)


def test_only_the_owner_reads_the_log(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    path.touch(0o644)
    store = open_store(f"sqlite:///{path}")
    store.insert([request_row(make_request(1))], [])
    with store.engine.connect() as connection:
        # While a connection is open, the write-ahead log and its index lie beside the database.
        connection.exec_driver_sql("SELECT 1")
        files = sorted(tmp_path.glob("requests.db*"))
        assert len(files) == 3
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    spool = Spool(tmp_path / "spool.jsonl")
    spool.path.touch(0o644)
    spool.append([("request", request_row(make_request(2)))])
    (renamed,) = spool.take()
    spool.shorten(renamed, 0)
    assert renamed.stat().st_mode & 0o777 == 0o600
    store.close()


def test_old_and_surplus_requests_are_deleted_with_their_feedback(store: Store) -> None:
    rows = [request_row(make_request(n, key="k1" if n % 2 else None)) for n in range(1, 11)]
    feedback = [feedback_row(row["id"], "c", None, row["key"]) for row in rows]
    alone = {**feedback_row("never logged", "c", None), "given_at": 1.0}
    store.insert(rows, [*feedback, alone])
    assert store.purge(before=3.0) == 2
    assert store.purge(keep_rows=5) == 3
    assert store.read_window()["id"].to_pylist() == [f"r{n}" for n in range(6, 11)]
    assert store.purge(key="k1", before=8.0) == 1
    assert store.purge(key="k1") == 1
    assert store.read_window()["id"].to_pylist() == ["r6", "r8", "r10"]
    assert store.purge(keep_rows=5) == store.purge(before=0.0) == 0
    with store.engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT request_id FROM feedback").scalars()
        assert sorted(left) == ["r10", "r6", "r8"]


def test_the_writer_deletes_what_is_older_than_the_log_keeps(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'requests.db'}")
    now = time.time()
    ages = {1: 40.0, 2: 20.0, 3: 1.0}
    store.insert([request_row(make_request(n, now - days * 86_400)) for n, days in ages.items()], [])
    writer = RequestWriter(store, tmp_path / "spool.jsonl", retention=Retention(days=30, rows=1))
    assert writer.flush()
    writer.close()
    assert store.read_window()["id"].to_pylist() == ["r3"]
    assert writer.state().purged == 2


def test_feedback_counts_only_with_the_key_of_its_request(store: Store) -> None:
    store.insert([request_row(make_request(1, key="owner")), request_row(make_request(2))], [])
    store.insert([], [feedback_row("r1", "poison", "p", "other"), feedback_row("r2", "poison", None, "other")])
    assert store.read_window()["correction"].to_pylist() == [None, None]
    store.insert([], [feedback_row("r1", "right", None, "owner"), feedback_row("r2", "right", None, None)])
    store.insert([], [feedback_row("r1", "poison again", None, "other")])
    window = store.read_window()
    assert window["correction"].to_pylist() == ["right", "right"]
    assert window["label"].to_pylist() == [None, None]
    store.write_feedback("r1", label="by a person")
    assert store.read_window()["label"].to_pylist() == ["by a person", None]
    assert store.find_owner("r1") == ("owner",)
    assert store.find_owner("r2") == (None,)
    assert store.find_owner("r3") is None


def test_feedback_of_an_earlier_version_keeps_counting(store: Store) -> None:
    store.insert([request_row(make_request(1, key="owner")), request_row(make_request(2))], [])
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE feedback")
        connection.exec_driver_sql(
            "CREATE TABLE feedback (request_id TEXT PRIMARY KEY, correction TEXT, label TEXT, given_at FLOAT NOT NULL)"
        )
        connection.exec_driver_sql("INSERT INTO feedback VALUES ('r1', 'old', NULL, 1.0), ('r2', 'old', NULL, 1.0)")
    store.forget()
    assert store.read_window()["correction"].to_pylist() == ["old", "old"]
    store.insert([], [feedback_row("r1", "new", None, "owner")])
    assert store.read_window()["correction"].to_pylist() == ["new", "old"]


def test_a_request_whose_messages_are_unreadable_is_left_out(store: Store) -> None:
    rows = [request_row(make_request(n)) for n in (1, 2, 3)]
    rows[1]["messages"] = "no list"
    store.insert(rows, [])
    assert store.read_window()["id"].to_pylist() == ["r1", "r3"]


def test_requests_are_described_without_their_texts(store: Store) -> None:
    store.insert([request_row(make_request(n, release="a" if n < 3 else "b", key="k")) for n in range(4)], [])
    assert [row["id"] for row in store.list_requests("a", 2)] == ["r2", "r1"]
    assert store.describe_request("r3") == {
        "id": "r3", "received_at": 3.0, "model": "heptune", "release": "b",
        "prompt_tokens": 3, "completion_tokens": 2, "latency_ms": 1.5, "status": 200,
    }  # fmt: skip
    assert store.describe_request("r4") is None


def test_kinds_and_columns_are_checked() -> None:
    kind, row = check_entry("feedback", {"request_id": "r", "label": "nul \0", "given_at": 1})
    assert kind == "feedback"
    assert row == {"request_id": "r", "key": None, "correction": None, "label": "nul \ufffd", "given_at": 1.0}


def test_a_database_file_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    store = open_store(f"sqlite:///{path}")
    writer = RequestWriter(store, tmp_path / "spool.jsonl", retry_s=0.01)
    writer.log(make_request(1))
    assert writer.flush()
    for file in tmp_path.glob("requests.db*"):
        file.unlink()
    writer.log(make_request(2))
    wait_until(lambda: writer.state().written == 2)
    writer.close()
    assert store.read_window()["id"].to_pylist() == ["r2"]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["request", "feedback"]), st.dictionaries(st.text(), st.text())), max_size=5))
def test_what_is_spooled_is_what_is_read(entries: list[tuple[str, dict[str, str]]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool.jsonl")
        for entry in entries:
            spool.append([entry])  # type: ignore[list-item]
        files = spool.take()
        read = [b for path in files for batch in read_batches(path, 2, lambda k, r: (k, r)) for b in batch.entries]  # type: ignore[arg-type,return-value]
    assert read == entries


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("no url", "is invalid"),
        ("mysql://host/db", "store mysql"),
        ("sqlite://", "in memory"),
    ],
)
def test_urls_that_cannot_work_are_refused(url: str, reason: str) -> None:
    with pytest.raises(PipelineError, match=reason):
        open_store(url)


def test_a_database_that_does_not_answer_is_one_line_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = open_store(f"postgresql://me:secret@127.0.0.1:{port}/db")
    with pytest.raises(PipelineError, match="does not answer") as caught:
        store.count()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
