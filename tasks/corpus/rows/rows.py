"""The rows on their way through the stage, with the record of what each step did to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.records import MESSAGES, QUARANTINE

ROWS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("messages", MESSAGES, nullable=False),
    ]
)

# Rows whose texts are joined at a time: Arrow holds 2 GiB of text in a piece.
JOINED = 50_000
# A column of the sources that the rows carry along stands under this prefix.
CARRIED = "column:"
# Which row is like which. A place is the source, with the file where it has several; the text is cut.
TWINS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("dropped", pa.bool_(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("twin_place", pa.string(), nullable=False),
        pa.field("twin_row", pa.int64(), nullable=False),
        pa.field("twin_id", pa.string(), nullable=False),
        pa.field("twin_label", pa.string()),
        pa.field("twin_text", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("prompt_similarity", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Listing:
    """A table a step shows in the report.

    Attributes:
        heading: Above it.
        columns: Names of the columns.
        rows: Cells, a row each.
        note: Below it.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        name: Name of the step.
        rows_in: Rows that entered.
        rows_out: Rows that left.
        changed: Rows that left with another text or label.
        reasons: Reason to number of rows dropped for it.
        examples: A few pairs of text before and after.
        notes: Further figures of the step, shown beside it.
        listings: Tables for the report.
    """

    name: str
    rows_in: int
    rows_out: int
    changed: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[tuple[str, str], ...] = ()
    notes: Mapping[str, int | float] = field(default_factory=dict)
    listings: tuple[Listing, ...] = ()


@dataclass(frozen=True)
class Origin:
    """One source as it was read.

    Attributes:
        title: Its name in the rows.
        kind: Kind of source (``jsonl``, ``csv``, ...).
        place: Path or hub name, as configured.
        shape: Shape of its rows.
        files: File name to SHA-256.
        rows: Rows read, unreadable ones included.
        weight: Its weight.
        unused: Columns that took no part.
        left_out: Rows beyond its limit.
        confidence: How sure the shape was recognised, 0 to 1; 1 where params name it.
        candidates: Confidence of every shape that some row has.
        listings: Tables for the report, until the step `read` shows them.
    """

    title: str
    kind: str
    place: str
    shape: str
    files: Mapping[str, str]
    rows: int
    weight: float
    unused: tuple[str, ...] = ()
    left_out: int = 0
    confidence: float = 1.0
    candidates: Mapping[str, float] = field(default_factory=dict)
    listings: tuple[Listing, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Rows, what was dropped so far, and why.

    Attributes:
        table: Columns of `ROWS`, and ``answers`` where a source has several; later steps append ``id``,
            ``cluster`` and ``split``.
        dropped: Columns of `QUARANTINE`.
        steps: The steps so far, in order.
        origins: The sources.
        twins: Columns of `TWINS`: rows that are like an earlier one.
        apart: Rows that no split holds because nobody should learn their answer; None when there are none.
    """

    table: pa.Table
    dropped: pa.Table
    steps: tuple[Step, ...]
    origins: tuple[Origin, ...]
    twins: pa.Table = field(default_factory=TWINS.empty_table)
    apart: pa.Table | None = None

    @property
    def figures(self) -> dict[str, float | int]:
        """The last step in numbers, for the run's record."""
        step = self.steps[-1]
        figures: dict[str, float | int] = {
            "rows_in": step.rows_in,
            "rows_out": step.rows_out,
            "changed": step.changed,
        }
        return figures | dict(step.notes)


def finish_step(
    rows: Rows,
    name: str,
    table: pa.Table,
    reasons: Sequence[str | None] | None = None,
    changed: int = 0,
    examples: Sequence[tuple[str, str]] = (),
    notes: Mapping[str, int | float] | None = None,
    listings: Sequence[Listing] = (),
) -> Rows:
    """Record a step and drop the rows it gave a reason for.

    Args:
        rows: Before the step.
        name: Name of the step.
        table: The rows after the step, as many as before.
        reasons: Per row the reason to drop it, None to keep it; None keeps all.
        changed: Number of rows changed.
        examples: A few pairs of text before and after.
        notes: Further figures.
        listings: Tables for the report.

    Returns:
        The rows after the step; each row that left is in ``dropped``.
    """
    counts: Counter[str] = Counter()
    dropped = rows.dropped
    kept = table
    if reasons is not None and any(reason is not None for reason in reasons):
        column = pa.array(reasons, pa.string())
        leaves = pc.is_valid(column)
        gone = table.filter(leaves)
        why = column.filter(leaves)
        counts.update(why.to_pylist())
        dropped = pa.concat_tables([dropped, describe_dropped(gone, name, why)])
        kept = table.filter(pc.is_null(column))
    step = Step(
        name,
        table.num_rows,
        kept.num_rows,
        changed,
        dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        tuple(examples),
        notes or {},
        tuple(listings),
    )
    return replace(rows, table=kept, dropped=dropped, steps=(*rows.steps, step))


def describe_dropped(gone: pa.Table, step: str, reasons: pa.Array) -> pa.Table:
    """Rows that left, as quarantine rows."""
    shown = [name for name in ("messages", "label", "answers", "extra") if name in gone.column_names]
    contents = [orjson.dumps(row).decode() for row in gone.select(shown).to_pylist()]
    return pa.table(
        {
            "source": name_places(gone["source"], gone["file"]),
            "row": gone["row"],
            "step": pa.array([step] * gone.num_rows, pa.string()),
            "reason": reasons,
            "content": pa.array(contents, pa.string()),
        },
        schema=QUARANTINE,
    )


def name_places(sources: pa.ChunkedArray, files: pa.ChunkedArray) -> pa.ChunkedArray:
    """``title``, or ``title/file`` where a source has several files and the row number alone is not enough."""
    joined = pc.binary_join_element_wise(sources, files, "/")
    return pc.if_else(pc.equal(files, ""), sources, joined)


def turn_lengths(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number of turns of each row."""
    return np.asarray(pc.list_value_length(messages), dtype=np.int64)


def row_of_turn(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The row of each turn."""
    return np.repeat(np.arange(len(messages)), turn_lengths(messages))


def column_messages(table: pa.Table) -> pa.ListArray:
    """The ``messages`` column in one piece."""
    column = table["messages"]
    # Combining copies even a single piece.
    return (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()).cast(MESSAGES)


def cut_messages(table: pa.Table) -> Iterator[pa.ListArray]:
    """The ``messages`` column in pieces of `JOINED` rows, which bounds what is copied at a time."""
    return (column_messages(table.slice(start, JOINED)) for start in range(0, table.num_rows, JOINED))


def find_plain(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows are plain text: one assistant's turn and nothing else, all of it to be learned."""
    lengths = turn_lengths(messages)
    roles = messages.flatten().field("role")
    starts = np.cumsum(lengths) - lengths
    plain: np.ndarray[Any, np.dtype[np.bool_]] = lengths == 1
    plain[plain] = np.asarray(pc.equal(roles.take(pa.array(starts[plain])), "assistant"))
    return plain


def build_messages(conversations: Sequence[Sequence[Mapping[str, str]]]) -> pa.ListArray:
    """Turns as a column ``messages``; quicker than Arrow's own way through records."""
    offsets = np.concatenate([[0], np.cumsum([len(turns) for turns in conversations])])
    parts = [
        pa.array([turn[part] for turns in conversations for turn in turns], pa.string()) for part in ("role", "content")
    ]
    turns = pa.StructArray.from_arrays(parts, fields=list(MESSAGES.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns).cast(MESSAGES)


def replace_contents(messages: pa.ListArray, contents: pa.Array) -> pa.ListArray:
    """The same conversations with other texts, given flat in the order of the turns."""
    offsets = np.concatenate([[0], np.cumsum(turn_lengths(messages))]).astype(np.int32)
    turns = pa.StructArray.from_arrays([messages.flatten().field("role"), contents], names=["role", "content"])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns).cast(MESSAGES)


def join_turns(messages: pa.ListArray, roles: Sequence[str]) -> list[str]:
    """Per row the texts of these roles, joined by newlines."""
    joined: list[str] = []
    for start in range(0, len(messages), JOINED):
        part = messages.slice(start, JOINED)
        turns = part.flatten()
        wanted = pc.is_in(turns.field("role"), pa.array(roles))
        counts = np.bincount(row_of_turn(part)[np.asarray(wanted)], minlength=len(part))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        texts = pa.ListArray.from_arrays(offsets, turns.field("content").filter(wanted))
        joined += pc.binary_join(texts, "\n").to_pylist()
    return joined


def read_prompts(table: pa.Table) -> list[str]:
    """Per row what the user says; all of a plain text."""
    messages = column_messages(table)
    prompts, answers = (join_turns(messages, [role]) for role in ("user", "assistant"))
    return [prompt or answer for prompt, answer in zip(prompts, answers, strict=True)]
