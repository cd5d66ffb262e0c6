"""The table of rows that the steps of the stage pass on, with the record of what each step did."""

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

# Texts are joined in batches of this many rows, because an Arrow array holds at most 2 GiB of text.
ROWS_PER_JOIN = 50_000
# Prefix of the columns of the sources that are carried along for the split.
CARRIED = "column:"
# Pairs of similar rows. A place is the source, with the file name if it has several files; texts are truncated.
SIMILAR_ROWS_SCHEMA = pa.schema(
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
    """A table of a step for the report.

    Attributes:
        heading: Heading above the table.
        columns: Column names.
        rows: Cells of each row.
        note: Note below the table.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Step:
    """Record of what one step did.

    Attributes:
        name: Name of the step.
        rows_in: Number of rows before the step.
        rows_out: Number of rows after the step.
        changed: Number of rows whose text or label changed.
        reasons: Reason to number of rows dropped for it.
        examples: A few pairs of text before and after.
        notes: Further figures of the step, shown in the report.
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
        unused: Columns that were not used.
        left_out: Number of rows beyond its limit.
        confidence: Confidence in the recognised shape, 0 to 1; 1 when params name the shape.
        candidates: Confidence in every shape that fits at least one row.
        listings: Tables for the report, moved to the step `read`.
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

    @property
    def taken(self) -> int:
        """Rows within its limit, and those that are not readable."""
        return self.rows - self.left_out


@dataclass(frozen=True)
class Rows:
    """The rows, and those dropped so far with their reasons.

    Attributes:
        table: Columns of `ROWS`, ``answers`` where a source has several, and ``untrained`` where answers carry no
            loss; later steps append ``id``,
            ``cluster`` and ``split``.
        dropped: Columns of `QUARANTINE`.
        steps: The steps so far, in order.
        origins: The sources.
        twins: Columns of `SIMILAR_ROWS_SCHEMA`: rows that are similar to an earlier one.
        rejected: Rows outside every split because their only answer is marked bad; None when there are none.
    """

    table: pa.Table
    dropped: pa.Table
    steps: tuple[Step, ...]
    origins: tuple[Origin, ...]
    twins: pa.Table = field(default_factory=SIMILAR_ROWS_SCHEMA.empty_table)
    rejected: pa.Table | None = None

    @property
    def figures(self) -> dict[str, float | int]:
        """Figures of the last step, for the recorded run."""
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
    """Record a step and drop the rows for which it gave a reason.

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
        The rows after the step; each dropped row is in ``dropped``.
    """
    counts: Counter[str] = Counter()
    dropped = rows.dropped
    kept = table
    if reasons is not None and any(reason is not None for reason in reasons):
        column = pa.array(reasons, pa.string())
        is_dropped = pc.is_valid(column)
        rows_dropped = table.filter(is_dropped)
        drop_reasons = column.filter(is_dropped)
        counts.update(drop_reasons.to_pylist())
        dropped = pa.concat_tables([dropped, describe_dropped(rows_dropped, name, drop_reasons)])
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


def describe_dropped(dropped: pa.Table, step: str, reasons: pa.Array) -> pa.Table:
    """Dropped rows in the schema of the quarantine."""
    columns = [name for name in ("messages", "label", "answers", "extra", "untrained") if name in dropped.column_names]
    contents = [orjson.dumps(row).decode() for row in dropped.select(columns).to_pylist()]
    return pa.table(
        {
            "source": name_places(dropped["source"], dropped["file"]),
            "row": dropped["row"],
            "step": pa.array([step] * dropped.num_rows, pa.string()),
            "reason": reasons,
            "content": pa.array(contents, pa.string()),
        },
        schema=QUARANTINE,
    )


def name_places(sources: pa.ChunkedArray, files: pa.ChunkedArray) -> pa.ChunkedArray:
    """``title``, or ``title/file`` for a source of several files, where a row number alone is ambiguous."""
    joined = pc.binary_join_element_wise(sources, files, "/")
    return pc.if_else(pc.equal(files, ""), sources, joined)


def turn_lengths(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number of turns of each row."""
    return np.asarray(pc.list_value_length(messages), dtype=np.int64)


def row_of_turn(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The row of each turn."""
    return np.repeat(np.arange(len(messages)), turn_lengths(messages))


def column_messages(table: pa.Table) -> pa.ListArray:
    """The ``messages`` column as a single array."""
    column = table["messages"]
    # Combining copies even a single chunk.
    return (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()).cast(MESSAGES)


def cut_messages(table: pa.Table) -> Iterator[pa.ListArray]:
    """The ``messages`` column in batches of `ROWS_PER_JOIN` rows, which bounds the memory of copies."""
    return (column_messages(table.slice(start, ROWS_PER_JOIN)) for start in range(0, table.num_rows, ROWS_PER_JOIN))


def find_plain(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each row is plain text: a single assistant turn, all of it trained on."""
    lengths = turn_lengths(messages)
    roles = messages.flatten().field("role")
    starts = np.cumsum(lengths) - lengths
    plain: np.ndarray[Any, np.dtype[np.bool_]] = lengths == 1
    plain[plain] = np.asarray(pc.equal(roles.take(pa.array(starts[plain])), "assistant"))
    return plain


def build_messages(conversations: Sequence[Sequence[Mapping[str, str]]]) -> pa.ListArray:
    """Turns as a column ``messages``; faster than Arrow's conversion of Python dicts."""
    offsets = np.concatenate([[0], np.cumsum([len(turns) for turns in conversations])])
    fields = [
        pa.array([turn[key] for turns in conversations for turn in turns], pa.string()) for key in ("role", "content")
    ]
    turns = pa.StructArray.from_arrays(fields, fields=list(MESSAGES.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns).cast(MESSAGES)


def join_turns(messages: pa.ListArray, roles: Sequence[str]) -> list[str]:
    """The texts of the given roles of each row, joined by newlines."""
    joined: list[str] = []
    for start in range(0, len(messages), ROWS_PER_JOIN):
        batch = messages.slice(start, ROWS_PER_JOIN)
        turns = batch.flatten()
        has_role = pc.is_in(turns.field("role"), pa.array(roles))
        counts = np.bincount(row_of_turn(batch)[np.asarray(has_role)], minlength=len(batch))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        texts = pa.ListArray.from_arrays(offsets, turns.field("content").filter(has_role))
        joined += pc.binary_join(texts, "\n").to_pylist()
    return joined


def read_prompts(table: pa.Table) -> list[str]:
    """The user turns of each row; for plain text the whole text."""
    messages = column_messages(table)
    prompts, answers = (join_turns(messages, [role]) for role in ("user", "assistant"))
    return [prompt or answer for prompt, answer in zip(prompts, answers, strict=True)]
