"""Rows with several answers, or with answers that are marked good or bad: preferences, rankings, choices.

The conversation of a row contains the preferred answer, which supervised training learns. The other answers are in the
column ``answers``, are cleaned by the same steps, and are written to ``answers.parquet`` beside the splits for
preference training. The column exists only when a source has such rows. A comparison that cleaning leaves with a single
answer says nothing about it any more, and is no mark: the row is then an example like any other.

Marks of the steps of an answer are in the column ``steps``, which exists only when a source has such rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.records import ANSWER_SETS, MESSAGES, STEPS
from tasks.contracts.tables import add_file, write_table
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


def describe_answers(conversations: Sequence[ConvertedRow]) -> pa.Array:
    """The column ``answers`` of converted rows, null where a row does not rate its answer."""
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


def list_steps(conversations: Sequence[ConvertedRow]) -> pa.Array | None:
    """The column ``steps`` of converted rows; None where no row marks the steps of its answer."""
    if not any(conversation.steps for conversation in conversations):
        return None
    return pa.array([list(conversation.steps) or None for conversation in conversations], STEPS.type)


def clean_answers(clean: Callable[[pa.Table], Cleaned], before: pa.Table, result: Cleaned) -> Cleaned:
    """Apply a cleaning step to the other answers, too.

    Each answer is passed to the step as a row of its own, after its prompt. An answer that the step would drop is
    removed from its row; the row is kept, and compares nothing any more when it was the last.

    Args:
        clean: The step.
        before: The rows before the step.
        result: Result of the step for these rows.
    """
    if COLUMN not in before.column_names:
        return result
    rows = before[COLUMN].to_pylist()
    prompts = before["messages"].to_pylist()
    positions = [(row, position) for row, value in enumerate(rows) if value for position in range(len(value["others"]))]
    if not positions:
        return result
    turns = [prompts[row][: rows[row]["start"]] + rows[row]["others"][position]["turns"] for row, position in positions]
    sources = before.select(["source", "file", "row", "label"]).take(
        pa.array([row for row, _ in positions], pa.int64())
    )
    table = pa.table(
        {
            **{name: sources[name] for name in sources.column_names},
            "messages": pa.array(turns, MESSAGES),
        },
        schema=ROWS,
    )
    cleaned = clean(table)
    reasons = cleaned.reasons or [None] * len(positions)
    kept_answers: dict[int, list[dict[str, Any]]] = {row: [] for row, _ in positions}
    dropped = 0
    for (row, position), conversation, reason in zip(
        positions, cleaned.table["messages"].to_pylist(), reasons, strict=True
    ):
        answer = conversation[rows[row]["start"] :]
        if reason is None and answer:
            kept_answers[row].append({"turns": answer, "score": rows[row]["others"][position]["score"]})
        else:
            dropped += 1
    compared = [
        value if row not in kept_answers else value | {"others": kept_answers[row]} if kept_answers[row] else None
        for row, value in enumerate(rows)
    ]
    column = pa.array(compared, TYPE)
    index = result.table.schema.get_field_index(COLUMN)
    table_out = result.table.set_column(index, COLUMN, column)
    alone = sum(not kept for kept in kept_answers.values())
    notes = dict(result.notes or {}) | ({"other_answers_dropped": dropped} if dropped else {})
    notes |= {"comparisons_dropped": alone} if alone else {}
    return replace(result, table=table_out, notes=notes or None)


def exclude_rejected(rows: Rows) -> Rows:
    """Exclude rows whose only answer is marked bad from the splits, so that no model is trained on it.

    They are kept in ``rows.rejected`` for `write_answers`, and are in the quarantine with their reason.
    """
    if COLUMN not in rows.table.column_names:
        return rows
    preferred = pc.fill_null(pc.struct_field(rows.table[COLUMN], "preferred"), True)
    if pc.all(preferred).as_py():
        return rows
    rejected = rows.table.filter(pc.invert(preferred))
    reasons = [
        None if is_preferred else "answer marked bad; in answers.parquet only" for is_preferred in preferred.to_pylist()
    ]
    return replace(finish_step(rows, STEP, rows.table, reasons), rejected=rejected)


def write_answers(rows: Rows, path: Path) -> int:
    """Write the answer sets of all rows that have comparable answers.

    Args:
        rows: Split rows, after `exclude_rejected`.
        path: The Parquet file; without such rows it is written empty.

    Returns:
        Number of rows.
    """
    tables = [table for table in (rows.table, rows.rejected) if table is not None and COLUMN in table.column_names]
    comparable = [row for table in tables for row in table.to_pylist() if row[COLUMN] is not None]
    comparable.sort(key=lambda row: (row["id"], row["source"], row["file"], row["row"]))
    answer_sets = [found for row in comparable if (found := make_answer_set(row)) is not None]
    schema = add_file(ANSWER_SETS, rows.table["file"])
    if any(found["steps"] for found in answer_sets):
        schema = schema.append(STEPS)
    write_table(pa.Table.from_pylist(answer_sets, schema=schema), path, schema)
    return len(answer_sets)


def make_answer_set(row: dict[str, Any]) -> dict[str, Any] | None:
    """The answer set of a row; None for a comparison of an answer with itself."""
    value = row[COLUMN]
    preferred = row["messages"][value["start"] :]
    # The preferred answer again, with another score, would contradict itself.
    others = [other for other in value["others"] if other["turns"] != preferred]
    if value["others"] and not others:
        return None
    return {
        "id": row["id"],
        "split": row["split"],
        "prompt": row["messages"][: value["start"]],
        "answers": [{"turns": preferred, "score": value["score"]}, *others],
        "source": row["source"],
        "row": row["row"],
        "file": row["file"],
        "cluster": row["cluster"],
        "steps": row.get(STEPS.name),
    }


def count_equal(table: pa.Table) -> Counter[str]:
    """Number of rows per source that compare an answer with itself, which `write_answers` leaves out."""
    if COLUMN not in table.column_names:
        return Counter()
    compared = table.filter(pc.is_valid(table[COLUMN])).to_pylist()
    return Counter(row["source"] for row in compared if make_answer_set(row) is None)


def count_answers(table: pa.Table | None) -> Counter[str]:
    """Number of rows with comparable answers per source."""
    if table is None or COLUMN not in table.column_names:
        return Counter()
    return Counter(table.filter(pc.is_valid(table[COLUMN]))["source"].to_pylist())
