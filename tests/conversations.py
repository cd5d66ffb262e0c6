"""Rows of conversations made for a test."""

from __future__ import annotations

import pyarrow as pa

from tasks.contracts.records import QUARANTINE
from tasks.corpus.rows.rows import ROWS, Rows, Step

Turns = list[tuple[str, str]]


def make(*conversations: Turns, labels: list[str | None] | None = None) -> Rows:
    count = len(conversations)
    table = pa.table(
        {
            "source": ["s"] * count,
            "file": [""] * count,
            "row": list(range(1, count + 1)),
            "label": pa.array(labels or [None] * count, pa.string()),
            "messages": [[{"role": r, "content": c} for r, c in turns] for turns in conversations],
        },
        schema=ROWS,
    )
    return Rows(table, QUARANTINE.empty_table(), (Step("read", count, count),), ())


def pair(prompt: str, answer: str) -> Turns:
    return [("user", prompt), ("assistant", answer)]


def texts(rows: Rows) -> list[list[str]]:
    return [[turn["content"] for turn in messages] for messages in rows.table["messages"].to_pylist()]
