"""Rows with several answers, or with answers that are marked good or bad: preferences, rankings, choices.

A conversation holds the preferred answer, and that is what supervised training learns. The others go along in the
column ``answers`` of the rows, are cleaned by the same steps, and end in ``answers.parquet`` beside the splits, for
training that compares answers. The column is only there when a source has such rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.records import ANSWER_SETS, MESSAGES
from tasks.contracts.tables import write_table
from tasks.corpus.reading.shapes.shape import ConvertedRow
from tasks.corpus.rows.rows import ROWS, Rows, finish_step
from tasks.corpus.rows.texts import Cleaned

COLUMN = "answers"
STEP = "preferences"
TYPE = pa.struct(
    [
        ("start", pa.int32()),
        ("score", pa.float64()),
        ("preferred", pa.bool_()),
        ("others", pa.list_(pa.struct([("turns", MESSAGES), ("score", pa.float64())]))),
    ]
)


def describe_answers(conversations: Sequence[ConvertedRow]) -> pa.Array | None:
    """The column ``answers`` of converted rows; None when no row says how good its answer is."""
    if all(conversation.start is None for conversation in conversations):
        return None
    values = [
        None
        if c.start is None
        else {
            "start": c.start,
            "score": c.score,
            "preferred": c.preferred,
            "others": [{"turns": other.turns, "score": other.score} for other in c.others],
        }
        for c in conversations
    ]
    return pa.array(values, TYPE)


def clean_answers(clean: Callable[[pa.Table], Cleaned], before: pa.Table, done: Cleaned) -> Cleaned:
    """Do to the other answers what a step did to the conversations.

    Each goes through the step as a row of its own, behind its prompt; an answer for which the step would drop the
    row leaves, and the row stays.

    Args:
        clean: The step.
        before: The rows before it.
        done: What it gave for them.
    """
    if COLUMN not in before.column_names:
        return done
    rows = before[COLUMN].to_pylist()
    prompts = before["messages"].to_pylist()
    places = [(row, place) for row, value in enumerate(rows) if value for place in range(len(value["others"]))]
    if not places:
        return done
    turns = [prompts[row][: rows[row]["start"]] + rows[row]["others"][place]["turns"] for row, place in places]
    taken = before.select(["source", "file", "row"]).take(pa.array([row for row, _ in places], pa.int64()))
    table = pa.table(
        {
            **{name: taken[name] for name in taken.column_names},
            "label": pa.nulls(len(places), pa.string()),
            "messages": pa.array(turns, MESSAGES),
        },
        schema=ROWS,
    )
    cleaned = clean(table)
    reasons = cleaned.reasons or [None] * len(places)
    kept: dict[int, list[dict[str, Any]]] = {row: [] for row, _ in places}
    left = 0
    for (row, place), conversation, reason in zip(places, cleaned.table["messages"].to_pylist(), reasons, strict=True):
        answer = conversation[rows[row]["start"] :]
        if reason is None and answer:
            kept[row].append({"turns": answer, "score": rows[row]["others"][place]["score"]})
        else:
            left += 1
    column = pa.array([value | {"others": kept[row]} if row in kept else value for row, value in enumerate(rows)], TYPE)
    index = done.table.schema.get_field_index(COLUMN)
    out = done.table.set_column(index, COLUMN, column)
    notes = dict(done.notes or {}) | ({"other_answers_dropped": left} if left else {})
    return replace(done, table=out, notes=notes or None)


def join_answers(table: pa.Table, pairs: Sequence[tuple[int, int]]) -> pa.Table:
    """Give a conversation the other answers of its repetitions, which are about to be dropped.

    The same preferred answer is often compared with several others, a row each.

    Args:
        table: The rows.
        pairs: A row and a later one with the same conversation.
    """
    if COLUMN not in table.column_names or not pairs:
        return table
    values = table[COLUMN].to_pylist()
    for first, again in pairs:
        one, other = values[first], values[again]
        if one and other and (one["start"], one["score"]) == (other["start"], other["score"]):
            fresh = [answer for answer in other["others"] if answer not in one["others"]]
            values[first] = one | {
                "others": sorted(one["others"] + fresh, key=lambda answer: -(answer["score"] or 0.0))
            }
    return table.set_column(table.schema.get_field_index(COLUMN), COLUMN, pa.array(values, TYPE))


def set_apart(rows: Rows) -> Rows:
    """Take out the rows whose only answer is marked bad: nobody should learn it as if it were right.

    They stay in ``rows.apart``, so that `write_answers` writes them, and are in the quarantine with their reason.
    """
    if COLUMN not in rows.table.column_names:
        return rows
    preferred = pc.fill_null(pc.struct_field(rows.table[COLUMN], "preferred"), True)
    if pc.all(preferred).as_py():
        return rows
    apart = rows.table.filter(pc.invert(preferred))
    reasons = [None if good else "answer marked bad; in answers.parquet only" for good in preferred.to_pylist()]
    return replace(finish_step(rows, STEP, rows.table, reasons), apart=apart)


def write_answers(rows: Rows, path: Path) -> int:
    """Write every row whose answers can be compared.

    Args:
        rows: Split rows, after `set_apart`.
        path: The Parquet file; without such rows it holds none.

    Returns:
        Number of rows.
    """
    tables = [table for table in (rows.table, rows.apart) if table is not None and COLUMN in table.column_names]
    found = [row for table in tables for row in table.to_pylist() if row[COLUMN] is not None]
    found.sort(key=lambda row: (row["id"], row["source"], row["row"]))
    lines = [_compare(row) for row in found]
    write_table(pa.Table.from_pylist(lines, schema=ANSWER_SETS), path, ANSWER_SETS)
    return len(lines)


def _compare(row: dict[str, Any]) -> dict[str, Any]:
    value = row[COLUMN]
    own = row["messages"][value["start"] :]
    # The same text with another score would contradict itself.
    others = [other for other in value["others"] if other["turns"] != own]
    return {
        "id": row["id"],
        "split": row["split"],
        "prompt": row["messages"][: value["start"]],
        "answers": [{"turns": own, "score": value["score"]}, *others],
        "source": row["source"],
        "row": row["row"],
        "cluster": row["cluster"],
    }


def count_answers(table: pa.Table | None) -> Counter[str]:
    """Per source its rows whose answers can be compared."""
    if table is None or COLUMN not in table.column_names:
        return Counter()
    return Counter(table.filter(pc.is_valid(table[COLUMN]))["source"].to_pylist())
