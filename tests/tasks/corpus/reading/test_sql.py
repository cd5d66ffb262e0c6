"""A query gives the same rows in the same order from SQLite and from a real PostgreSQL, and never writes."""

from __future__ import annotations

import logging
import sqlite3
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, make_url, text

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.source import Part, Records
from tasks.corpus.reading.sources.sql import Sql
from tests.postgres import Database

TICKETS = [(3, "Wo ist das Café?", "Hier."), (1, "Open 50% off: 10:30?", "No."), (2, "a\u2028b", None)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind with a table of tickets."""
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgres")
        found = database.url
    else:
        found = f"sqlite:///{tmp_path / 'tickets.db'}"
    with connect(found).begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS tickets"))
        connection.execute(text('CREATE TABLE tickets (id INTEGER, "Question" TEXT, answer TEXT)'))
        for row in TICKETS:
            connection.execute(text("INSERT INTO tickets VALUES (:a, :b, :c)"), dict(zip("abc", row, strict=True)))
    return found


def connect(url: str) -> Any:
    parsed = make_url(url)
    return create_engine(parsed.set(drivername="postgresql+psycopg") if url.startswith("postgresql") else parsed)


def take(source: Sql, root: Path = Path()) -> tuple[list[Part], Records]:
    records = source.read(root)
    return list(records.parts), records


def items(source: Sql, root: Path = Path()) -> list[dict[str, Any]]:
    return [item for part in take(source, root)[0] for item in part.items]


def test_rows_come_in_the_order_of_their_key_whatever_the_query_says(url: str) -> None:
    query = """
        SELECT id, "Question", answer FROM tickets
        WHERE "Question" <> ':x 100% :y' ORDER BY "Question" DESC; -- newest last
    """.strip().replace(";", "")
    source = Sql(url=url, query=query, order_by=("id",))
    parts, records = take(source)
    assert [item["id"] for part in parts for item in part.items] == [1, 2, 3]
    assert parts[0].numbers == [1, 2, 3]
    assert parts[0].items[0] == {"id": 1, "Question": "Open 50% off: 10:30?", "answer": "No."}
    assert parts[0].items[1] == {"id": 2, "Question": "a\u2028b", "answer": None}
    # Both databases hold the same rows, so both have this pin.
    pin = "7ef34b941fe4c0a4809fad798e14a54e15eb7efc42452242a0f837a758045935"
    assert list(records.files.values()) == [pin]
    assert items(source.model_copy(update={"sha256": pin}))
    other = "0" * 64
    with pytest.raises(PipelineError, match=f"have sha256 {pin}; pinned is {other}"):
        items(source.model_copy(update={"sha256": other}))
    assert items(Sql(url=url, query="SELECT * FROM tickets;", order_by=("Question", "id")))[0]["id"] in (1, 3)


def test_an_order_that_is_not_determined_stops(url: str) -> None:
    query = "SELECT 1 AS kind, id, answer FROM tickets"
    with pytest.raises(PipelineError, match=r"rows 1 and 2 have the same kind \(1\), so their order is not determined"):
        items(Sql(url=url, query=query, order_by=("kind",)))
    assert len(items(Sql(url=url, query=query, order_by=("kind", "id")))) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"query": "SELECT nothing FROM tickets"}, "nothing"),
        ({"query": "SELECT * FROM nowhere"}, "nowhere"),
        ({"query": "DELETE FROM tickets RETURNING id"}, "does not give the rows"),
        ({"query": "SELECT answer FROM tickets", "order_by": ("answer",), "json_columns": ("x",)}, r"has no \['x'\]"),
    ],
)
def test_queries_that_cannot_work_are_one_line(url: str, changes: dict[str, Any], reason: str) -> None:
    params: dict[str, Any] = {"url": url, "query": "", "order_by": ("id",), **changes}
    with pytest.raises(PipelineError, match=reason) as caught:
        items(Sql(**params))
    assert "\n" not in str(caught.value)
    with connect(url).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM tickets")).scalar() == 3


def test_types_of_a_database_become_json(postgres: Database) -> None:
    query = """
        SELECT 1 AS id, 1.50::numeric AS price, DATE '2026-02-03' AS day, TIMESTAMP '2026-02-03 04:05:06' AS moment,
        true AS solved, ARRAY['a', 'b'] AS tags, '{"a": [1, {"b": null}]}'::jsonb AS extra, 'café'::bytea AS raw,
        '\\xff'::bytea AS image, '[{"role": "user", "content": "hi"}]' AS messages,
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS name
    """
    item = items(Sql(url=postgres.url, query=query, order_by=("id",), json_columns=("messages",)))[0]
    assert item == {
        "id": 1,
        "price": "1.50",
        "day": "2026-02-03",
        "moment": "2026-02-03T04:05:06",
        "solved": True,
        "tags": ["a", "b"],
        "extra": {"a": [1, {"b": None}]},
        "raw": "café",
        "image": b"\xff",
        "messages": [{"role": "user", "content": "hi"}],
        "name": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    }


def test_bad_rows_are_broken_and_the_others_stay(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE t (id INTEGER, text TEXT, extra TEXT)")
        deep = '{"a":' * 150 + "1" + "}" * 150
        rows = [(1, "fine", "[]"), (2, b"caf\xe9", "[]"), (3, "torn", "[1,"), (4, "nul \0", None), (5, "deep", deep)]
        database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        database.execute("UPDATE t SET text = CAST(text AS TEXT)")
    source = Sql(url="sqlite:///x.db", query="SELECT * FROM t", order_by=("id",), json_columns=("extra",))
    part = take(source, tmp_path)[0][0]
    assert [(item["id"], item["text"]) for item in part.items] == [(1, "fine"), (4, "nul \0")]
    assert [(row.number, row.reason) for row in part.broken] == [
        (2, "not UTF-8"),
        (3, '"extra" is not JSON'),
        (5, "nested deeper than 100 levels"),
    ]
    assert part.broken[0].content == r'{"id": 2, "text": "caf\udce9", "extra": "[]"}'


def test_rows_are_streamed(url: str) -> None:
    series = (
        "SELECT i AS id, repeat('x', 10000) AS text FROM generate_series(1, 5000) AS i"
        if url.startswith("postgresql")
        else "WITH RECURSIVE s(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM s WHERE id < 5000) "
        "SELECT id, replace(hex(zeroblob(5000)), '0', 'x') AS text FROM s"
    )
    tracemalloc.start()
    count = sum(part.rows for part in Sql(url=url, query=series, order_by=("id",)).read(Path()).parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    # 50 MB of text, of which 500 rows of 10 kB are held at a time.
    assert peak < 25_000_000


def test_the_password_comes_from_the_environment_and_is_never_shown(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(postgres.url).begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader"))
        connection.execute(text("CREATE ROLE reader LOGIN PASSWORD 'hunter2'"))
    url = postgres.url.replace("heptune@", "reader@")
    source = Sql(
        url=url, query="SELECT 1 AS id, current_user AS who", order_by=("id",), password_env="TICKETS_PASSWORD"
    )
    with pytest.raises(PipelineError, match="the environment variable TICKETS_PASSWORD is not set"):
        items(source)
    monkeypatch.setenv("TICKETS_PASSWORD", "hunter2")
    assert items(source) == [{"id": 1, "who": "reader"}]
    with pytest.raises(PipelineError) as caught:
        items(source.model_copy(update={"url": url.replace("/postgres", "/hunter2")}))
    assert "hunter2" not in str(caught.value).replace("/hunter2", "")


@pytest.mark.parametrize("url", ["postgresql://me:secret@host/db", "postgresql://host/db?password=secret", "no url"])
def test_urls_with_a_password_and_no_urls_are_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sql(url=url, query="SELECT 1", order_by=("id",))
    assert "password" in str(caught.value) or "no SQLAlchemy URL" in str(caught.value)


def test_a_missing_database_file_is_not_made(tmp_path: Path) -> None:
    parts, records = take(Sql(url="sqlite:///gone.db", query="SELECT 1", order_by=("id",)), tmp_path)
    assert (parts, records.files) == ([], {})
    assert not (tmp_path / "gone.db").exists()


def test_an_unpinned_query_is_warned_of(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        items(Sql(url=url, query="SELECT * FROM tickets", order_by=("id",)))
    assert "DVC does not watch a database" in caplog.text
