"""Rows of a query, as the source of databases gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tasks.corpus.reading.sources.broken_rows import show_row
from tasks.corpus.reading.sources.source import Broken, Part
from tasks.corpus.reading.sources.values import LONGEST_ROW, TOO_DEEP, TOO_LONG, has_surrogates, is_deep


def take_row(part: Part, number: int, item: dict[str, Any], json_columns: Sequence[str], digest: Any) -> None:
    """Put a row into a part, where it can be read.

    Args:
        part: Gets the row, among the broken ones where it cannot be written as JSON.
        number: Of the row, counted from 1.
        item: Column to value; JSON is parsed in place.
        json_columns: Columns of text that hold JSON.
        digest: Gets the row's values, for the pin.
    """
    values = list(item.values())
    reason = None
    try:
        data = orjson.dumps(values, default=repr)
    except TypeError:
        data = repr(values).encode(errors="backslashreplace")
        torn = any(isinstance(value, str) and has_surrogates(value) for value in values)
        reason = "not UTF-8" if torn else "holds what JSON cannot say"
    digest.update(data + b"\n")
    if len(data) > LONGEST_ROW:
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
