"""Run the cleaning steps over the rows, in the order of params."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import pyarrow as pa
from pydantic import SecretStr
from rich.console import Console
from rich.progress import track

from tasks.contracts.errors import PipelineError
from tasks.data_preparation.answers import clean_answers
from tasks.data_preparation.cleaning.pii import Pii
from tasks.data_preparation.cleaning.texts import Cleaned
from tasks.data_preparation.rows import Rows, Step, finish_step


class Cleaner(Protocol):
    """A cleaning step."""

    @property
    def name(self) -> str: ...
    def clean(self, table: pa.Table) -> Cleaned: ...


def clean_rows(rows: Rows, cleaners: Sequence[Cleaner], key: SecretStr | None = None) -> Rows:
    """Clean the rows.

    Args:
        rows: As read.
        cleaners: The steps, in order.
        key: With which the step `pii` hashes.

    Returns:
        The rows that are left, with what each step changed and dropped.

    Raises:
        PipelineError: Nothing is left, or a step lacks what it needs.
    """
    console = Console(stderr=True)
    steps = track(cleaners, "Cleaning", console=console, transient=True, disable=not console.is_terminal)
    for cleaner in steps:
        if isinstance(cleaner, Pii):
            # It reads the other answers with the conversation, so that the same value becomes the same in all.
            done = cleaner.clean(rows.table, key)
        else:
            done = clean_answers(cleaner.clean, rows.table, cleaner.clean(rows.table))
        rows = finish_step(
            rows, cleaner.name, done.table, done.reasons, done.changed, done.examples, done.notes, done.listings
        )
        if isinstance(cleaner, Pii):
            rows = _scrub_record(rows, cleaner)
        if not rows.table.num_rows:
            last = rows.steps[-1]
            raise PipelineError(
                f"cleaning: step {cleaner.name} dropped the last of {rows.steps[0].rows_out} rows "
                f"({', '.join(last.reasons)}); loosen it in data_preparation.cleaning or check the sources"
            )
    return rows


def _scrub_record(rows: Rows, pii: Pii) -> Rows:
    # What happened before the step for personal data still shows it, and the quarantine and the report are kept.
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
