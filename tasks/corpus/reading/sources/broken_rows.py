"""What the quarantine shows of a row that could not be read."""

from __future__ import annotations

import json
from typing import Any

import orjson

from tasks.corpus.reading.sources.values import TOO_DEEP, show_text


def show_row(row: Any) -> str:
    """A row as JSON for the quarantine, cut when it is long."""
    try:
        text = orjson.dumps(row, default=repr).decode()
    except TypeError:
        # Too deep for orjson, a large integer, or half of a surrogate pair.
        try:
            text = json.dumps(row, default=repr)
        except RecursionError:
            text = TOO_DEEP
    return show_text(text)
