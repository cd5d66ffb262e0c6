"""Requests, answers and feedback in a database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from sqlalchemy import (
    Column,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import REQUESTS, RequestLog

logger = logging.getLogger(__name__)

METADATA = MetaData()
REQUEST_ROWS = Table(
    "requests",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("received_at", Double, nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("release", Text, nullable=False, index=True),
    Column("key", Text),
    Column("messages", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("status", Integer, nullable=False),
)
# A separate table, because feedback may arrive before the row of its request is written.
FEEDBACK_ROWS = Table(
    "feedback",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("correction", Text),
    Column("label", Text),
    Column("given_at", Double, nullable=False),
)

Row = dict[str, Any]


def open_store(url: str) -> Store:
    """A store by SQLAlchemy URL; it connects and creates tables on first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user:password@host/database``.

    Raises:
        PipelineError: The URL is invalid or unsupported, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise PipelineError("the store's URL is invalid; expected sqlite:///path or postgresql://...") from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise PipelineError(f"store {parsed.get_backend_name()}; expected sqlite:///path or postgresql://...")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise PipelineError("store sqlite in memory; expected a file: sqlite:///path")
    try:
        return Store(parsed)
    except (ImportError, NoSuchModuleError) as error:
        raise PipelineError(
            f"store {hide_password(parsed)}: its driver is missing ({error}); run `pip install 'heptune[postgres]'`"
        ) from error


def hide_password(url: URL) -> str:
    """The URL without its password, for messages."""
    return url.render_as_string(hide_password=True)


class Store:
    """Requests and feedback in one database. Safe to use from several threads and processes."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._ready = False
        if url.get_backend_name() == "sqlite":
            # No pool, so that the next connection notices a database file that was moved.
            self.engine = create_engine(url, poolclass=NullPool)
            event.listen(self.engine, "connect", prepare_sqlite)
        else:
            self.engine = create_engine(url, pool_pre_ping=True, pool_size=4, connect_args={"connect_timeout": 5})

    @property
    def name(self) -> str:
        """The URL without its password."""
        return hide_password(self.url)

    # -- writing; raises SQLAlchemyError, for the writer to deal with ---------------------------

    def prepare(self) -> None:
        """Create missing tables."""
        if self._ready:
            return
        if self.url.get_backend_name() == "sqlite" and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        try:
            METADATA.create_all(self.engine)
        except (ProgrammingError, IntegrityError):
            # Another process created them at the same time.
            METADATA.create_all(self.engine)
        self._ready = True

    def forget(self) -> None:
        """Close connections after a failure; tables are checked again on the next use."""
        self._ready = False
        self.engine.dispose()

    def insert(self, requests: Sequence[Row], feedback: Sequence[Row]) -> None:
        """Write rows in one transaction; existing rows are not changed."""
        self.prepare()
        with self.engine.begin() as connection:
            if requests:
                statement = insert_into(self.engine, REQUEST_ROWS).on_conflict_do_nothing()
                connection.execute(statement, list(requests))
            for row in feedback:
                connection.execute(upsert_feedback(self.engine), row)

    def known(self, request_id: str) -> bool:
        """Whether a request was logged."""
        self.prepare()
        with self.engine.connect() as connection:
            found = connection.execute(select(REQUEST_ROWS.c.id).where(REQUEST_ROWS.c.id == request_id))
            return found.first() is not None

    # -- for people and stages ------------------------------------------------------------------

    def write_feedback(self, request_id: str, correction: str | None = None, label: str | None = None) -> None:
        """Store the correct answer or the intent of a request; later feedback replaces the fields it has.

        Raises:
            PipelineError: No such request, nothing given, or the database does not answer.
        """
        row = feedback_row(request_id, correction, label)
        with self._answering():
            if not self.known(request_id):
                raise PipelineError(f"no request {request_id} in {self.name}; use the id of an answer")
            self.insert([], [row])

    def read_window(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int | None = None,
        release: str | None = None,
        status: int | None = None,
    ) -> pa.Table:
        """Logged requests with their feedback, oldest first.

        Args:
            since: Earliest time of receipt, seconds since the epoch.
            until: Time of receipt before which, seconds since the epoch.
            limit: Maximum number of requests, the newest.
            release: Only requests answered by this release.
            status: Only requests with this HTTP status; by default rejected and failed ones are included.

        Returns:
            Rows of `REQUESTS`, ordered by time and id.

        Raises:
            PipelineError: The database does not answer.
        """
        rows = REQUEST_ROWS.c
        joined = REQUEST_ROWS.outerjoin(FEEDBACK_ROWS, rows.id == FEEDBACK_ROWS.c.request_id)
        query = select(*rows, FEEDBACK_ROWS.c.correction, FEEDBACK_ROWS.c.label).select_from(joined)
        if since is not None:
            query = query.where(rows.received_at >= since)
        if until is not None:
            query = query.where(rows.received_at < until)
        if release is not None:
            query = query.where(rows.release == release)
        if status is not None:
            query = query.where(rows.status == status)
        query = query.order_by(rows.received_at.desc(), rows.id.desc()).limit(limit)
        with self._answering():
            self.prepare()
            with self.engine.connect() as connection:
                found = [dict(row) for row in connection.execute(query).mappings()]
        for row in found:
            row["messages"] = orjson.loads(row["messages"])
        # Sorted here, because databases sort text by their own collation.
        found.sort(key=lambda row: (row["received_at"], row["id"]))
        return pa.Table.from_pylist(found, schema=REQUESTS)

    def count(self, release: str | None = None, since: float | None = None) -> int:
        """Number of logged requests.

        Raises:
            PipelineError: The database does not answer.
        """
        query = select(func.count()).select_from(REQUEST_ROWS)
        if release is not None:
            query = query.where(REQUEST_ROWS.c.release == release)
        if since is not None:
            query = query.where(REQUEST_ROWS.c.received_at >= since)
        with self._answering():
            self.prepare()
            with self.engine.connect() as connection:
                return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            self.forget()
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise PipelineError(f"store {self.name} does not answer ({reason}); start it or check its URL") from error


def prepare_sqlite(connection: Any, record: object) -> None:
    """Let readers and the writer work concurrently, and wait for a locked file."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=5000")


def insert_into(engine: Engine, table: Table) -> Any:
    """An insert statement that supports ``ON CONFLICT``."""
    return postgresql.insert(table) if engine.dialect.name == "postgresql" else sqlite.insert(table)


def upsert_feedback(engine: Engine) -> Any:
    """Insert feedback, or replace the fields that newer feedback has."""
    insert = insert_into(engine, FEEDBACK_ROWS)
    new, old = insert.excluded, FEEDBACK_ROWS.c
    return insert.on_conflict_do_update(
        index_elements=[old.request_id],
        set_={
            "correction": func.coalesce(new.correction, old.correction),
            "label": func.coalesce(new.label, old.label),
            "given_at": new.given_at,
        },
        # Replayed rows may be older than the stored ones.
        where=new.given_at >= old.given_at,
    )


def request_row(log: RequestLog) -> Row:
    """A request as a row of the table."""
    row: Row = log.model_dump(exclude={"messages", "correction", "label"})
    turns = [{"role": m.role, "content": storable(m.content)} for m in log.messages]
    texts = {name: storable(value) for name, value in row.items() if isinstance(value, str)}
    return {**row, **texts, "messages": orjson.dumps(turns).decode()}


def feedback_row(request_id: str, correction: str | None, label: str | None) -> Row:
    """Feedback as a row of the table.

    Raises:
        PipelineError: Neither correction nor label.
    """
    if correction is None and label is None:
        raise PipelineError(f"feedback on {request_id} is empty; expected a correction, a label, or both")
    given: Mapping[str, str | None] = {"correction": correction, "label": label}
    texts = {name: None if text is None else storable(text) for name, text in given.items()}
    return {"request_id": storable(request_id), **texts, "given_at": time.time()}


def storable(text: str) -> str:
    """Text that every database accepts: PostgreSQL rejects NUL, and a lone surrogate cannot be encoded."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
