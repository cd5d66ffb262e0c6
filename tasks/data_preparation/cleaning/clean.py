"""Run the cleaning steps over the rows, in the order of params."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby
from math import ceil
from typing import Protocol, runtime_checkable

import pyarrow as pa
from pydantic import SecretStr

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.progress import track
from tasks.contracts.records import QUARANTINE
from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.reading.answers import clean_answers
from tasks.corpus.rows.rows import Listing, Rows, Step, finish_step
from tasks.corpus.rows.texts import EXAMPLES, Cleaned
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.chunk import Chunk
from tasks.data_preparation.cleaning.steps.controls import Controls
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.cleaning.steps.html import Html
from tasks.data_preparation.cleaning.steps.language import Language
from tasks.data_preparation.cleaning.steps.length import Length
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.refusals import Refusals
from tasks.data_preparation.cleaning.steps.repetition import Repetition
from tasks.data_preparation.cleaning.steps.template import Template
from tasks.data_preparation.cleaning.steps.unicode import Unicode
from tasks.data_preparation.cleaning.steps.whitespace import Whitespace

# Steps that look at one row at a time, so that their result does not depend on the batches. `tokens`,
# `toxicity` and `template` read files, `chunk` makes several rows of one, and `labels` compares all rows.
ROW_BY_ROW = (
    Unicode, Controls, Html, Whitespace, Pii, Missing, Length, Repetition, Quality, C4, Language, Echo, Refusals,
)  # fmt: skip
# Smallest number of rows cleaned at a time in this process, which bounds the memory.
MIN_BATCH_ROWS = 10_000
JoinListings = Callable[[Sequence[tuple[Listing, ...]], int], tuple[Listing, ...]]


class Cleaner(Protocol):
    """A cleaning step."""

    @property
    def name(self) -> str: ...
    def clean(self, table: pa.Table) -> Cleaned: ...


@runtime_checkable
class CheckedCleaner(Protocol):
    """A step that can tell beforehand whether it has what it needs."""

    def check(self) -> None: ...


class NoRowLeft(PipelineError):
    """A step dropped the last row.

    Attributes:
        dropped: Columns of `QUARANTINE`: all rows, with their reasons.
    """

    def __init__(self, message: str, dropped: pa.Table) -> None:
        super().__init__(message)
        self.dropped = dropped


def check_cleaners(cleaners: Sequence[Cleaner]) -> None:
    """Look for the files that steps need before the first row is read.

    Raises:
        PipelineError: Some are missing, or not as pinned; all of them are named.
    """
    problems: list[str] = []
    for cleaner in cleaners:
        try:
            if isinstance(cleaner, CheckedCleaner):
                cleaner.check()
        except PipelineError as error:
            problems.append(str(error))
    raise_all(problems, "cleaning")


def clean_rows(rows: Rows, cleaners: Sequence[Cleaner], key: SecretStr | None = None, spread: Spread = IN_TURN) -> Rows:
    """Clean the rows.

    Args:
        rows: As read.
        cleaners: The steps, in order.
        key: Key of the hashes of the step `pii`.
        spread: Where the steps that look at one row at a time run.

    Returns:
        The remaining rows, with the record of what each step changed and dropped.

    Raises:
        NoRowLeft: No row remains.
        PipelineError: A requirement of a step is missing.
    """
    in_parts = rows.table.num_rows > (spread.rows or MIN_BATCH_ROWS)
    runs = [list(run) for _, run in groupby(cleaners, key=lambda cleaner: in_parts and _is_row_by_row(cleaner))]
    for run in track(runs, "cleaning"):
        whole = not (in_parts and _is_row_by_row(run[0]))
        rows = _clean_whole(rows, run, key) if whole else _clean_parts(rows, run, key, spread)
    return rows


def _is_row_by_row(cleaner: Cleaner) -> bool:
    # C4 compares the spans of sentences of all rows.
    return isinstance(cleaner, ROW_BY_ROW) and not (isinstance(cleaner, C4) and cleaner.span)


def _clean_whole(rows: Rows, cleaners: Sequence[Cleaner], key: SecretStr | None) -> Rows:
    for cleaner in cleaners:
        rows = _run_step(cleaner, rows, key)
        rows = _check_step(cleaner, rows)
    return rows


def _run_step(cleaner: Cleaner, rows: Rows, key: SecretStr | None) -> Rows:
    """Run one step; personal data is not yet removed from its record."""
    if isinstance(cleaner, Chunk):
        return cleaner.cut_rows(rows)
    if isinstance(cleaner, Pii):
        # It reads the other answers with the conversation, so that equal values get equal replacements.
        cleaned = cleaner.clean(rows.table, key)
    elif isinstance(cleaner, Template):
        # It may shorten the prompt, which all answers of a row share.
        cleaned = cleaner.clean(rows.table)
    else:
        cleaned = clean_answers(cleaner.clean, rows.table, cleaner.clean(rows.table))
    return finish_step(
        rows,
        cleaner.name,
        cleaned.table,
        cleaned.reasons,
        cleaned.changed,
        cleaned.examples,
        cleaned.notes,
        cleaned.listings,
    )


def _check_step(cleaner: Cleaner, rows: Rows) -> Rows:
    if isinstance(cleaner, Pii):
        rows = _scrub_record(rows, cleaner)
    last = rows.steps[-1]
    if not last.rows_out:
        raise NoRowLeft(
            f"cleaning: step {cleaner.name} dropped the last of {rows.steps[0].rows_out} rows "
            f"({', '.join(last.reasons)}); relax its thresholds in data_preparation.cleaning or check the sources",
            rows.dropped,
        )
    return rows


def _clean_parts(rows: Rows, cleaners: Sequence[Cleaner], key: SecretStr | None, spread: Spread) -> Rows:
    """Run several steps in batches; the record is the same as that of all rows together."""
    parts = list(spread("clean", partial(_clean_part, cleaners, key), map(pack, cut_parts(rows.table, spread.rows))))
    for place, cleaner in enumerate(cleaners):
        steps = [part.steps[place] for part in parts]
        dropped = pa.concat_tables(unpack(part.dropped[place]) for part in parts).combine_chunks()
        step = join_steps(steps, getattr(cleaner, "join_listings", None))
        rows = replace(rows, dropped=pa.concat_tables([rows.dropped, dropped]), steps=(*rows.steps, step))
        rows = _check_step(cleaner, rows)
    return replace(rows, table=pa.concat_tables(unpack(part.table) for part in parts))


def cut_parts(table: pa.Table, size: int | None) -> Iterator[pa.Table]:
    """A table in batches of ``size`` rows; None: in memory chunks joined to at least `MIN_BATCH_ROWS` rows."""
    start = 0
    for end in accumulate([size] * ceil(table.num_rows / size) if size else map(len, table["row"].chunks)):
        if size or end - start >= MIN_BATCH_ROWS or end == table.num_rows:
            yield table.slice(start, end - start)
            start = end


@dataclass(frozen=True)
class CleanedPart:
    """A batch after several steps.

    Attributes:
        table: The remaining rows, serialized.
        steps: The record of each step.
        dropped: Per step the rows it dropped, serialized.
    """

    table: bytes
    steps: tuple[Step, ...]
    dropped: tuple[bytes, ...]


def _clean_part(cleaners: Sequence[Cleaner], key: SecretStr | None, part: bytes) -> CleanedPart:
    rows = Rows(unpack(part), QUARANTINE.empty_table(), (), ())
    dropped: list[bytes] = []
    for cleaner in cleaners:
        before = rows.dropped.num_rows
        rows = _run_step(cleaner, rows, key)
        dropped.append(pack(rows.dropped.slice(before)))
    return CleanedPart(pack(rows.table), rows.steps, tuple(dropped))


def pack(table: pa.Table) -> bytes:
    """Serialize a table, without the rest of a table it is a slice of."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack(packed: bytes) -> pa.Table:
    """The table that `pack` serialized."""
    return pa.ipc.open_stream(packed).read_all()


def join_steps(steps: Sequence[Step], join_listings: JoinListings | None) -> Step:
    """Join the records of a step on all batches to that of all rows together."""
    reasons: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    examples: dict[tuple[str, str], None] = {}
    for step in steps:
        reasons.update(step.reasons)
        notes.update(step.notes)
        examples |= dict.fromkeys(step.examples)
    rows_in = sum(step.rows_in for step in steps)
    return Step(
        steps[0].name,
        rows_in,
        sum(step.rows_out for step in steps),
        sum(step.changed for step in steps),
        dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        tuple(examples)[:EXAMPLES],
        dict(sorted(notes.items())),
        join_listings([step.listings for step in steps], rows_in) if join_listings else (),
    )


def _scrub_record(rows: Rows, pii: Pii) -> Rows:
    # The records of earlier steps still contain personal data, and end up in the quarantine and the report.
    dropped = rows.dropped
    for name in ("reason", "content"):
        index = dropped.schema.get_field_index(name)
        column = pa.array(pii.scrub(dropped[name].to_pylist()), pa.string())
        dropped = dropped.set_column(index, dropped.schema.field(index), column)
    origins = [replace(origin, unused=tuple(pii.scrub(origin.unused))) for origin in rows.origins]
    return replace(
        rows, dropped=dropped, steps=tuple(_scrub_step(step, pii) for step in rows.steps), origins=tuple(origins)
    )


def _scrub_step(step: Step, pii: Pii) -> Step:
    reasons: Counter[str] = Counter()
    for reason, clean in zip(step.reasons, pii.scrub(list(step.reasons)), strict=True):
        reasons[clean] += step.reasons[reason]
    listings = [replace(each, rows=tuple(_scrub_cells(row, pii) for row in each.rows)) for each in step.listings]
    examples = tuple((before, after) for before, after in map(pii.scrub, step.examples))
    return replace(step, reasons=dict(reasons), examples=examples, listings=tuple(listings))


def _scrub_cells(row: tuple[str | int | float, ...], pii: Pii) -> tuple[str | int | float, ...]:
    return tuple(pii.scrub([cell])[0] if isinstance(cell, str) else cell for cell in row)
