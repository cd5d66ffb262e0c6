"""Progress of long work: a bar where people look at a terminal, a line a minute in a log.

The lines carry ``shown_as_bar``, so that a handler that writes to a terminal can leave out what the bar shows there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

logger = logging.getLogger(__name__)

LINE_EVERY_S = 60.0
ON_BAR = {"shown_as_bar": True}

T = TypeVar("T")
Advance = Callable[[int], None]


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show how far the work of the block is.

    Args:
        what: The work, such as ``answering``.
        total: How many pieces it has.

    Yields:
        A function that is told how many more pieces are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    done, began = 0, time.monotonic()
    told = began
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        row = bar.add_task(what, total=total)

        def advance(pieces: int) -> None:
            nonlocal done, told
            done += pieces
            bar.advance(row, pieces)
            now = time.monotonic()
            if now - told >= LINE_EVERY_S and done < total:
                told = now
                left = say_time((now - began) / done * (total - done)) if done else "unknown time"
                logger.info("%s: %s of %s, about %s left", what, f"{done:,}", f"{total:,}", left, extra=ON_BAR)

        yield advance


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, one after the other, with `progress` of the work on them; a single one has none."""
    if len(items) < 2:
        yield from items
        return
    with progress(what, len(items)) as advance:
        for item in items:
            yield item
            advance(1)


def say_time(seconds: float) -> str:
    """A duration in words, ``12 s``, ``5 min`` or ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
