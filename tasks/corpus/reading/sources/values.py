"""Values of rows: JSON types with valid Unicode text, within limits of size and depth."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Mapping
from typing import Any

# Maximum size of a line, record or cell; longer ones are no training rows.
MAX_ROW_BYTES = 16 * 1024 * 1024
# orjson serialises at most 254 levels, and a row must still be serialisable inside a message.
MAX_DEPTH = 100
MAX_SHOWN_CHARACTERS = 10_000
TOO_LONG = f"longer than {MAX_ROW_BYTES >> 20} MiB"
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

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

    Times become ISO 8601, decimals and UUIDs text, UTF-8 bytes text; other bytes are not changed.
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
