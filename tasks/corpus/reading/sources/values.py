"""Values as rows hold them: what JSON can say, in text that is valid Unicode."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Mapping
from typing import Any

# The longest line, record or cell that is read; what is longer is no training row.
LONGEST_ROW = 16 * 1024 * 1024
# Levels of nesting; orjson writes 254 at most, and a row must still be writable inside a message.
DEEPEST = 100
LONGEST_SHOWN = 10_000
TOO_LONG = f"longer than {LONGEST_ROW >> 20} MiB"
TOO_DEEP = f"nested deeper than {DEEPEST} levels"

_SURROGATE = re.compile("[\ud800-\udfff]")


def has_surrogates(text: str) -> bool:
    """Whether a text holds halves of surrogate pairs, which are no characters and cannot be written as UTF-8."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def to_plain(value: Any) -> Any:
    """A value of a database or of Arrow as JSON says it.

    Times become ISO 8601, decimals and UUIDs text, bytes text where they are UTF-8; other bytes stay.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return str(value)


def show_text(text: str | bytes, length: int | None = None) -> str:
    """What a broken row held, for the quarantine: bytes that are no text escaped, cut when it is long.

    Args:
        text: All of it, or its beginning.
        length: Its full length, where only the beginning is given.
    """
    length = len(text) if length is None else length
    if length <= LONGEST_SHOWN:
        return _escape(text)
    unit = "bytes" if isinstance(text, bytes) else "characters"
    return f"{_escape(text[:LONGEST_SHOWN])}… ({length:,} {unit})"


def _escape(text: str | bytes) -> str:
    if isinstance(text, bytes):
        return text.decode(errors="backslashreplace")
    try:
        # Bytes that were no UTF-8 stand in it as surrogates.
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
