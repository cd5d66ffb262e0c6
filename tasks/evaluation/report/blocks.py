"""Parts of the evaluation page that other rooms write: benchmarks, safety, judges.

A room returns a `ReportBlock`; the flow collects them in a list and `write_report` shows them, in the order of the
list, under a heading each, after the answers that changed. What a block holds in ``values`` stands in ``report.json``.

Example:
    ``ReportBlock("Benchmarks", "Nothing got worse.", (BlockTable("Accuracy", ["suite", "base"], [["bbh", 0.31]]),))``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.pages.page import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAXIMUM_ROWS = 60
MAXIMUM_NOTES = 20


@dataclass(frozen=True)
class BlockTable:
    """A table of a block, of which the page shows the first `MAXIMUM_ROWS` rows.

    Attributes:
        heading: What it shows; empty below the heading of the block itself.
        columns: Names of the columns.
        rows: Cells, numbers or texts.
        note: A sentence below it; what stands between backticks is code.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True)
class BlockFigure:
    """A figure of a block.

    Attributes:
        heading: What it shows.
        draw: Makes the figure, only when the page is written.
        caption: How it is read.
    """

    heading: str
    draw: Callable[[], Figure]
    caption: str = ""


@dataclass(frozen=True)
class ReportBlock:
    """A part of the page.

    Attributes:
        title: Its heading, unlike that of any other block.
        summary: The result in a sentence or two of plain English.
        tables: Shown in this order.
        figures: Shown after the tables.
        notes: What is to be known about the numbers, a sentence each.
        values: Everything for programs; whatever JSON has a form for.
    """

    title: str
    summary: str
    tables: Sequence[BlockTable] = ()
    figures: Sequence[BlockFigure] = ()
    notes: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def add_block(page: Page, block: ReportBlock) -> None:
    """Show a block on the page."""
    page.heading(block.title)
    page.text(block.summary)
    for table in block.tables:
        left = len(table.rows) - MAXIMUM_ROWS
        note = f"{table.note} {left:,} more rows are in report.json.".strip() if left > 0 else table.note
        page.table(table.heading, table.columns, table.rows[:MAXIMUM_ROWS], note)
    for figure in block.figures:
        page.figure(figure.draw(), figure.heading, figure.caption)
    if block.notes:
        page.listing(block.notes[:MAXIMUM_NOTES])
