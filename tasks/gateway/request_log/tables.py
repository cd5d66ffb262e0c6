"""The two tables of the request log, and what a row of them has to look like."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, cast

import orjson
from sqlalchemy import Column, Double, Integer, MetaData, Table, Text

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import RequestLog
from tasks.gateway.request_log.spool import Entry

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
# A separate table, because feedback may arrive before the row of its request is written. It counts only where its
# key is that of the request.
FEEDBACK_ROWS = Table(
    "feedback",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("key", Text),
    Column("correction", Text),
    Column("label", Text),
    Column("given_at", Double, nullable=False),
)
TABLES = {"request": REQUEST_ROWS, "feedback": FEEDBACK_ROWS}
LARGEST_INTEGER = 2**63 - 1

Row = dict[str, Any]


def request_row(log: RequestLog) -> Row:
    """A request as a row of the table."""
    row: Row = log.model_dump(exclude={"messages", "correction", "label"})
    turns = [{"role": m.role, "content": storable(m.content)} for m in log.messages]
    texts = {name: storable(value) for name, value in row.items() if isinstance(value, str)}
    return {**row, **texts, "messages": orjson.dumps(turns).decode()}


def feedback_row(request_id: str, correction: str | None, label: str | None, key: str | None = None) -> Row:
    """Feedback as a row of the table.

    Raises:
        PipelineError: Neither correction nor label.
    """
    if correction is None and label is None:
        raise PipelineError(f"feedback on {request_id} is empty; expected a correction, a label, or both")
    given: Mapping[str, str | None] = {"correction": correction, "label": label}
    texts = {name: None if text is None else storable(text) for name, text in given.items()}
    return {"request_id": storable(request_id), "key": key, **texts, "given_at": time.time()}


def storable(text: str) -> str:
    """Text that every database accepts: PostgreSQL rejects NUL, and a lone surrogate cannot be encoded."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def check_entry(kind: str, row: Row) -> Entry:
    """An entry that both databases accept; missing columns that may be empty are.

    Raises:
        ValueError: It is none; the message says why.
    """
    table = TABLES.get(kind)
    if table is None:
        raise ValueError(f"kind {kind[:40]!r}; expected request or feedback")
    if unknown := sorted(set(row) - set(table.c.keys())):
        raise ValueError(f"unknown column {unknown[0][:40]!r} of a {kind}")
    checked = {column.name: _check_value(column, row.get(column.name)) for column in table.c}
    if kind == "request":
        _check_messages(checked["messages"])
    return cast(Entry, (kind, checked))


def _check_value(column: Column[Any], value: Any) -> Any:
    if value is None:
        if not column.nullable:
            raise ValueError(f"no {column.name}")
        return None
    kind = column.type.python_type
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str and isinstance(value, str):
        return storable(value)
    if kind is int and is_number and isinstance(value, int) and abs(value) <= LARGEST_INTEGER:
        return value
    if kind is float and is_number and math.isfinite(value):
        return float(value)
    raise ValueError(f"{column.name} is {str(value)[:40]!r}; expected {kind.__name__}")


def _check_messages(text: str) -> None:
    try:
        turns = read_messages(text)
    except ValueError as error:
        raise ValueError("messages is no list of turns") from error
    if any(not isinstance(turn["role"], str) or not isinstance(turn["content"], str) for turn in turns):
        raise ValueError("messages has a turn without text")


def read_messages(text: str) -> list[dict[str, str]]:
    """The turns of a logged prompt.

    Raises:
        ValueError: The text is no list of turns.
    """
    turns = orjson.loads(text)
    try:
        return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    except (TypeError, KeyError) as error:
        raise ValueError(f"no list of turns ({type(error).__name__}: {error})") from error
