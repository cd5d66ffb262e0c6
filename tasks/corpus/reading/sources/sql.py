"""Rows of a query, from any database supported by SQLAlchemy; tested with SQLite and PostgreSQL.

The query becomes a subquery sorted by ``order_by``, and two rows with equal values there stop the stage: without a
unique key the database may return the rows in another order each time. Nothing is written: the transaction is rolled
back, and connections to SQLite and PostgreSQL are read-only.

Example:
    ``{name: sql, title: tickets, url: "postgresql://reader@db.local/support", password_env: SUPPORT_PASSWORD,
    query: "SELECT id, question, answer FROM tickets WHERE solved", order_by: [id]}`` reads

         id | question              | answer
        ----+-----------------------+--------------------------
          1 | Are you open Sundays? | No, Monday to Saturday.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads
from tasks.corpus.reading.sources.pins import log, require_pinned
from tasks.corpus.reading.sources.source import Part, Records, Source
from tasks.corpus.reading.sources.stores import hide_secrets, read_secrets
from tasks.corpus.reading.sources.values import to_plain

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Select

ROWS_PER_PART = 500
CONNECT_TIMEOUT_S = 10


class Sql(Source):
    """A query."""

    name: Literal["sql"] = "sql"
    url: Annotated[str, Reads("database")] = Field(
        description="SQLAlchemy URL without a password: sqlite:///data/raw/faq.db (relative to the repository), "
        "postgresql://user@host/database, ..."
    )
    password_env: str | None = Field(default=None, description="environment variable that holds the password")
    query: str = Field(min_length=1, description="one SELECT; its own ORDER BY has no effect")
    order_by: tuple[str, ...] = Field(
        min_length=1,
        description="columns of the result that together form a unique key; rows are sorted by them",
    )
    json_columns: tuple[str, ...] = Field(default=(), description="columns of text that hold JSON, such as messages")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ValueError("no SQLAlchemy URL; expected sqlite:///path or postgresql://user@host/database") from error
        if parsed.password is not None or "password" in parsed.query:
            raise ValueError("the URL must not hold a password; name its environment variable in password_env")
        return url

    @property
    def place(self) -> str:
        """What it reads, for messages and reports."""
        return self.url

    def read(self, root: Path) -> Records:
        """Read all rows in the order of ``order_by``.

        Raises:
            PipelineError: The database does not answer, the query fails, or its order is not determined.
        """
        hashes: dict[str, str] = {}
        url = self._open_url(root)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            return Records((), hashes)
        return Records(self._read(url, hashes), hashes)

    def _open_url(self, root: Path) -> URL:
        from sqlalchemy.engine import make_url

        url = make_url(self.url)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite" and url.database:
            url = url.set(database=str(root / url.database))
        if self.password_env:
            secrets = read_secrets({"password": self.password_env}, self.title or self.name)
            url = url.set(password=secrets["password"])
        return url

    def _read(self, url: URL, hashes: dict[str, str]) -> Iterator[Part]:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
        from sqlalchemy.pool import NullPool

        title = self.title or self.name
        digest = hashlib.sha256()
        try:
            connect_args = {"connect_timeout": CONNECT_TIMEOUT_S} if url.get_backend_name() == "postgresql" else {}
            engine = create_engine(url, poolclass=NullPool, connect_args=connect_args)
            with engine.connect() as connection:
                _forbid_writing(connection)
                yield from self._stream(connection, digest)
        except (ImportError, NoSuchModuleError) as error:
            raise PipelineError(
                f'source "{title}": the driver of {self.url} is missing ({error}); install it, '
                "for PostgreSQL with `pip install 'heptune[postgres]'`"
            ) from error
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error)
            reason = hide_secrets(cause, {"password": self.password_env} if self.password_env else {})
            raise PipelineError(
                f'source "{title}": {self.url} does not give the rows ({reason}); '
                "check url, password_env, query and order_by"
            ) from error
        hashes[self.url] = digest.hexdigest()
        self._check_pin(hashes[self.url])

    def _check_pin(self, digest: str) -> None:
        title = self.title or self.name
        if self.sha256 is None:
            log.warning(
                'source "%s": DVC does not watch a database, so new rows go unnoticed until the stage runs again; '
                "pin the rows with sha256: %s",
                title,
                digest,
            )
        require_pinned(self, f"the rows of {self.url}", digest, "have")

    def _stream(self, connection: Connection, digest: Any) -> Iterator[Part]:
        import orjson

        from tasks.corpus.reading.sources.sql_rows import append_row

        result = connection.execution_options(yield_per=ROWS_PER_PART).execute(_sort_query(self.query, self.order_by))
        columns = list(result.keys())
        duplicate_names = sorted({column for column in columns if columns.count(column) > 1})
        missing = [column for column in (*self.order_by, *self.json_columns) if column not in columns]
        if duplicate_names or missing:
            problem = (
                f"names {duplicate_names} twice; rename one with AS"
                if duplicate_names
                else f"has no {missing}; it has {columns}"
            )
            raise PipelineError(f'source "{self.title or self.name}": the result of the query {problem}')
        digest.update(orjson.dumps(columns))
        keys = [columns.index(column) for column in self.order_by]
        count, previous_key = 0, None
        for rows in result.partitions():
            part = Part()
            for number, row in enumerate(rows, start=count + 1):
                key = [row[index] for index in keys]
                if key == previous_key:
                    raise PipelineError(
                        f'source "{self.title or self.name}": rows {number - 1} and {number} have the same '
                        f"{', '.join(self.order_by)} ({', '.join(map(str, key))[:80]}), so their order is not "
                        "determined; add columns to order_by until the key is unique"
                    )
                previous_key = key
                item = dict(zip(columns, map(to_plain, row), strict=True))
                append_row(part, number, item, self.json_columns, digest)
            yield part
            count += part.rows


def _sort_query(query: str, order_by: Sequence[str]) -> Select[Any]:
    from sqlalchemy import column, select, text

    # A colon must not be read as a parameter; a comment in the last line must not hide the bracket after it.
    inner = text(query.strip().rstrip(";").replace(":", r"\:") + "\n")
    return select(text("*")).select_from(inner.columns().subquery("rows_read")).order_by(*map(column, order_by))


def _forbid_writing(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execution_options(postgresql_readonly=True)
    elif connection.dialect.name == "sqlite":
        # Text that is not UTF-8 would fail the whole query; this way only its row is broken.
        connection.connection.driver_connection.text_factory = _decode  # type: ignore[union-attr]
        connection.exec_driver_sql("PRAGMA query_only = ON")


def _decode(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
