"""Nested rows: SQuAD's questions in passages, Self-Instruct's instances.

Example:
    ``{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": []}]}]}`` is the row
    ``{"title": "t", "context": "c", "question": "q", "answers": []}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Name of the list that holds the rows, to the columns that each row inherits from the enclosing object.
INHERITED = {
    "paragraphs": ("title",),
    "qas": ("title", "context"),
    "instances": ("instruction", "name"),
}


def unfold_row(row: Mapping[str, Any], levels: int = 3) -> list[dict[str, Any]]:
    """The rows nested in a row of passages (SQuAD) or of instances (Self-Instruct); the row itself otherwise."""
    for name, columns in INHERITED.items() if levels else ():
        inner = row.get(name)
        if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
            outer = {column: row[column] for column in columns if column in row}
            return [inner_row for item in inner for inner_row in unfold_row(outer | item, levels - 1)]
    return [dict(row)]


def is_nested(value: Any) -> bool:
    """Whether an object is a row with nested rows."""
    return isinstance(value, dict) and any(isinstance(value.get(name), list) and value[name] for name in INHERITED)
