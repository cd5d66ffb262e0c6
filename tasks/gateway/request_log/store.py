"""Requests, answers and feedback in a database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import (
    Engine,
    Table,
    case,
    create_engine,
    delete,
    event,
    func,
    inspect,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import make_private
from tasks.contracts.records import REQUESTS
from tasks.gateway.request_log.tables import FEEDBACK_ROWS, METADATA, REQUEST_ROWS, Row, feedback_row, read_messages

logger = logging.getLogger(__name__)

# Requests deleted in one transaction.
PURGE_ROWS = 1000


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
            make_database_private(Path(self.url.database))
        try:
            self._create_tables()
        except (ProgrammingError, IntegrityError):
            # Another process created them at the same time.
            self._create_tables()
        self._ready = True

    def _create_tables(self) -> None:
        METADATA.create_all(self.engine)
        if any(column["name"] == "key" for column in inspect(self.engine).get_columns("feedback")):
            return
        # The log of an earlier version, whose feedback did not know its key.
        with self.engine.begin() as connection:
            connection.execute(text("ALTER TABLE feedback ADD COLUMN key TEXT"))
            owner = select(REQUEST_ROWS.c.key).where(REQUEST_ROWS.c.id == FEEDBACK_ROWS.c.request_id)
            connection.execute(update(FEEDBACK_ROWS).values(key=owner.scalar_subquery()))

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

    def find_owner(self, request_id: str) -> tuple[str | None] | None:
        """The key of a logged request, in a tuple because it may be None; None where there is no such request."""
        self.prepare()
        with self.engine.connect() as connection:
            found = connection.execute(select(REQUEST_ROWS.c.key).where(REQUEST_ROWS.c.id == request_id)).first()
            return None if found is None else (found[0],)

    def purge(self, before: float | None = None, keep_rows: int | None = None, key: str | None = None) -> int:
        """Delete requests and the feedback on them, in small transactions.

        Args:
            before: Requests received before this time are deleted, seconds since the epoch.
            keep_rows: Number of requests to keep, the newest.
            key: Only requests of this key, as logged; deletes all of them where nothing else is given.

        Returns:
            Number of deleted requests.
        """
        self.prepare()
        rows = REQUEST_ROWS.c
        conditions = [] if key is None else [rows.key == key]
        if before is not None:
            conditions.append(rows.received_at < before)
        deleted = 0
        if conditions:
            deleted += self._delete(select(rows.id).where(*conditions))
        if before is not None and key is None:
            given = FEEDBACK_ROWS.c
            alone = ~select(rows.id).where(rows.id == given.request_id).exists()
            with self.engine.begin() as connection:
                connection.execute(delete(FEEDBACK_ROWS).where(given.given_at < before, alone))
        if keep_rows is not None:
            newest = select(rows.received_at).order_by(rows.received_at.desc()).offset(keep_rows).limit(1)
            deleted += self._delete(select(rows.id).where(rows.received_at <= newest.scalar_subquery()))
        return deleted

    def _delete(self, query: Any) -> int:
        deleted = 0
        while True:
            with self.engine.begin() as connection:
                ids = list(connection.execute(query.limit(PURGE_ROWS)).scalars())
                connection.execute(delete(FEEDBACK_ROWS).where(FEEDBACK_ROWS.c.request_id.in_(ids)))
                connection.execute(delete(REQUEST_ROWS).where(REQUEST_ROWS.c.id.in_(ids)))
            deleted += len(ids)
            if len(ids) < PURGE_ROWS:
                return deleted

    # -- for people and stages ------------------------------------------------------------------

    def delete_requests(self, before: float | None = None, key: str | None = None) -> int:
        """As `purge`, for people.

        Raises:
            PipelineError: The database does not answer.
        """
        with self._answering():
            return self.purge(before, key=key)

    def write_feedback(self, request_id: str, correction: str | None = None, label: str | None = None) -> None:
        """Store the correct answer or the intent of a request; later feedback replaces the fields it has.

        Raises:
            PipelineError: No such request, nothing given, or the database does not answer.
        """
        row = feedback_row(request_id, correction, label)
        with self._answering():
            owner = self.find_owner(request_id)
            if owner is None:
                raise PipelineError(f"no request {request_id} in {self.name}; use the id of an answer")
            self.insert([], [{**row, "key": owner[0]}])

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
        given = FEEDBACK_ROWS.c
        joined = REQUEST_ROWS.outerjoin(
            FEEDBACK_ROWS, (rows.id == given.request_id) & given.key.is_not_distinct_from(rows.key)
        )
        query = select(*rows, given.correction, given.label).select_from(joined)
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
        found = [row for row in found if parse_messages(row)]
        # Sorted here, because databases sort text by their own collation.
        found.sort(key=lambda row: (row["received_at"], row["id"]))
        return pa.Table.from_pylist(found, schema=REQUESTS)

    def describe_request(self, request_id: str) -> Row | None:
        """When a request came, how it was answered, and by which release; not its texts. None where there is none.

        Raises:
            PipelineError: The database does not answer.
        """
        found = self._describe(REQUEST_ROWS.c.id == request_id, 1)
        return found[0] if found else None

    def list_requests(self, release: str, limit: int) -> list[Row]:
        """The newest requests that a release answered, as `describe_request` has them.

        Raises:
            PipelineError: The database does not answer.
        """
        return self._describe(REQUEST_ROWS.c.release == release, limit)

    def _describe(self, condition: Any, limit: int) -> list[Row]:
        rows = REQUEST_ROWS.c
        shown = [column for column in rows if column.name not in ("messages", "answer", "key")]
        query = select(*shown).where(condition).order_by(rows.received_at.desc(), rows.id.desc()).limit(limit)
        with self._answering():
            self.prepare()
            with self.engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]

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
    # What retention deletes is overwritten with zeros.
    connection.execute("PRAGMA secure_delete=ON")


def insert_into(engine: Engine, table: Table) -> Any:
    """An insert statement that supports ``ON CONFLICT``."""
    return postgresql.insert(table) if engine.dialect.name == "postgresql" else sqlite.insert(table)


def upsert_feedback(engine: Engine) -> Any:
    """Insert feedback, or replace the fields that newer feedback of the same key has.

    Where the stored feedback is of another key than the request's, that of the request's key takes its place.
    """
    insert = insert_into(engine, FEEDBACK_ROWS)
    new, old = insert.excluded, FEEDBACK_ROWS.c
    same_key = old.key.is_not_distinct_from(new.key)
    # As text, because SQLAlchemy would add the table of a column to the FROM of the subquery.
    given: Any = literal_column("excluded.request_id")
    request = select(REQUEST_ROWS.c.key).where(REQUEST_ROWS.c.id == given)
    is_owner = request.exists() & new.key.is_not_distinct_from(request.scalar_subquery())
    return insert.on_conflict_do_update(
        index_elements=[old.request_id],
        set_={
            "correction": case((same_key, func.coalesce(new.correction, old.correction)), else_=new.correction),
            "label": case((same_key, func.coalesce(new.label, old.label)), else_=new.label),
            "key": new.key,
            "given_at": new.given_at,
        },
        # Replayed rows may be older than the stored ones.
        where=(same_key & (new.given_at >= old.given_at)) | (~same_key & is_owner),
    )


def parse_messages(row: Row) -> bool:
    """Replace the text of the messages by its turns; False, with a warning, where it has none."""
    try:
        row["messages"] = read_messages(row["messages"])
    except ValueError as error:
        logger.warning("request %s is left out: its messages are unreadable (%s)", row["id"], error)
        return False
    return True


def make_database_private(path: Path) -> None:
    """Create the file of a database and its folder, and let only the owner read it and the log files beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    try:
        for file in (path, *(file for file in beside if file.exists())):
            make_private(file)
    except PermissionError as error:
        logger.warning("%s: its permissions cannot be changed (%s); others may be able to read it", path, error)
