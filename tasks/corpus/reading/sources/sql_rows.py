"""Convert the rows of a query to the rows of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tasks.corpus.reading.sources.broken_rows import show_row
from tasks.corpus.reading.sources.source import Broken, Part
from tasks.corpus.reading.sources.values import MAX_ROW_BYTES, TOO_DEEP, TOO_LONG, has_surrogates, is_deep


def append_row(part: Part, number: int, item: dict[str, Any], json_columns: Sequence[str], digest: Any) -> None:
    """Append a row to a part.

    Args:
        part: Gets the row, among its broken rows when it cannot be represented as JSON.
        number: Number of the row, counted from 1.
        item: Column to value; JSON columns are parsed in place.
        json_columns: Text columns that contain JSON.
        digest: Hash that is updated with the row's values, for the pin.
    """
    values = list(item.values())
    reason = None
    try:
        data = orjson.dumps(values, default=repr)
    except TypeError:
        data = repr(values).encode(errors="backslashreplace")
        has_invalid_text = any(isinstance(value, str) and has_surrogates(value) for value in values)
        reason = "not UTF-8" if has_invalid_text else "holds what JSON cannot say"
    digest.update(data + b"\n")
    if len(data) > MAX_ROW_BYTES:
        reason = TOO_LONG
    for column in () if reason else json_columns:
        if isinstance(item[column], str):
            try:
                item[column] = orjson.loads(item[column])
            except orjson.JSONDecodeError:
                reason = f'"{column}" is not JSON'
    if reason is None and is_deep(item):
        reason = TOO_DEEP
    if reason:
        part.broken.append(Broken(number, reason, show_row(item)))
    else:
        part.items.append(item)
        part.numbers.append(number)
