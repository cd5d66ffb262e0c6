"""Expected failures. Each prints one line and no traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence


class PipelineError(Exception):
    """Something the user can mend: what was found, what was expected, the next step."""


def raise_all(problems: Sequence[str], heading: str) -> None:
    """Report every problem at once.

    Raises:
        PipelineError: ``problems`` is not empty; a single one stands alone, several form a list.
    """
    if len(problems) == 1:
        raise PipelineError(problems[0])
    if problems:
        raise PipelineError("\n".join([f"{heading}: {len(problems)} problems", *(f"  - {p}" for p in problems)]))


def full_disk(error: BaseException | None) -> str | None:
    """The one line for a disk without space, or a quota that is used up; None for any other failure."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f"{error.filename}: " if error.filename else ""
            return f"{place}no space left on the disk; free some and run again, finished stages are kept"
        error = error.__cause__
    return None


def write_advice(reason: str) -> str:
    """What to do about a place that cannot be written, by the system's words for why."""
    closed = {os.strerror(number) for number in (errno.EACCES, errno.EPERM, errno.EROFS)}
    return "make it writable" if reason in closed else "free some space"
