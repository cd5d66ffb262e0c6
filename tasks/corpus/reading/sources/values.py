"""Values of rows: JSON types with valid Unicode text, within limits of size and depth."""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Maximum size of a line, record or cell; longer ones are no training rows.
MAX_ROW_BYTES = 16 * 1024 * 1024
# orjson serialises at most 254 levels, and a row must still be serialisable inside a message.
MAX_DEPTH = 100
MAX_SHOWN_CHARACTERS = 10_000
TOO_LONG = f"longer than {MAX_ROW_BYTES >> 20} MiB"
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

# Floats are exact integers below this.
MAX_EXACT = 2**53
_WHOLE = re.compile(r"-?\d+\.0")
_SURROGATE = re.compile("[\ud800-\udfff]")


def has_surrogates(text: str) -> bool:
    """Whether a text contains unpaired surrogates, which cannot be encoded as UTF-8."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than `MAX_DEPTH` levels."""
    containers = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [
            child
            for node in containers
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not containers:
            return False
    return True


def to_plain(value: Any) -> Any:
    """A value of a database or of Arrow as a JSON value.

    Times become ISO 8601, decimals and UUIDs text, UTF-8 bytes text; NaN and infinities are missing, as in JSON; other
    bytes are not changed.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return str(value)


def find_integer_columns(rows: Sequence[Mapping[str, Any]], text: bool) -> list[str]:
    """Columns of whole numbers that were written as floats, as pandas does where some are missing.

    Args:
        rows: Enough of them to tell.
        text: Whether numbers are text, as in CSV; then 1.0 counts only beside an empty field: it may be a version.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if _is_integer_column([row.get(name) for row in rows], text)]


def _is_integer_column(values: Sequence[Any], text: bool) -> bool:
    given = [value for value in values if value is not None and value != ""]
    if text:
        return 0 < len(given) < len(values) and all(isinstance(v, str) and _WHOLE.fullmatch(v) for v in given)
    numbers_given = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    return (
        numbers_given
        and any(isinstance(value, float) for value in given)
        and all(float(value).is_integer() and abs(value) < MAX_EXACT for value in given)
    )


def restore_integers(rows: Sequence[dict[str, Any]], columns: Iterable[str]) -> None:
    """Write the whole numbers of these columns as integers, in place."""
    for column in columns:
        for row in rows:
            value = row.get(column)
            if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT:
                row[column] = int(value)
            elif isinstance(value, str) and _WHOLE.fullmatch(value):
                row[column] = value.removesuffix(".0")


def show_text(text: str | bytes, length: int | None = None) -> str:
    """The content of a broken row for the quarantine, with invalid bytes escaped, truncated when it is long.

    Args:
        text: All of it, or its beginning.
        length: Its full length when only the beginning is given.
    """
    length = len(text) if length is None else length
    if length <= MAX_SHOWN_CHARACTERS:
        return _escape(text)
    unit = "bytes" if isinstance(text, bytes) else "characters"
    return f"{_escape(text[:MAX_SHOWN_CHARACTERS])}… ({length:,} {unit})"


def _escape(text: str | bytes) -> str:
    if isinstance(text, bytes):
        return text.decode(errors="backslashreplace")
    try:
        # Bytes that were not UTF-8 were decoded to surrogates.
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
