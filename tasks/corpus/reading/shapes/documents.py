"""The rows of one JSON document: a list of rows, or an object that contains lists of rows at any depth.

An object may also contain the rows as columns, or each row under a key of its own, as pandas writes them.

Example:
    ``{"train": [{"question": "a", "answer": "b"}], "test": [...]}`` holds its rows in two lists;
    ``[["set an alarm", "alarm"], ...]`` is a list of texts with their labels;
    ``{"data": [{"title": "t", "paragraphs": [...]}]}`` holds SQuAD's passages, whose questions are the rows.
"""

from __future__ import annotations

from typing import Any

from tasks.corpus.reading.shapes.nested import is_nested, unfold_row
from tasks.corpus.reading.shapes.recognise import has_prompt, is_row

# Rows are searched down to this level of nesting.
MAX_LEVELS = 100


def list_rows(document: Any) -> list[Any]:
    """The rows of a document in their order.

    A list of texts, or of pairs of a text and its label, becomes rows with ``text`` and ``label``. Other values are
    returned unchanged, so that the caller can report them.

    Args:
        document: A list or an object.
    """
    if isinstance(document, list):
        rows = _read_text_list(document) or document
    elif columns := _read_columns(document):
        rows = columns
    elif has_prompt(document):
        rows = [document]
    else:
        rows = _collect(open_envelope(document)) or _collect_pairs(document) or [document]
    return [row for item in rows for row in (unfold_row(item) if is_nested(item) else [item])]


def _collect(value: Any, levels: int = MAX_LEVELS) -> list[Any]:
    """All objects in lists below a value, down to ``levels`` levels, without descending into rows."""
    if not levels:
        return []
    if isinstance(value, dict):
        if rows := _read_columns(value) or _read_rows_by_key(value):
            return rows
        return [row for child in value.values() for row in _collect(child, levels - 1)]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [row for item in value for row in ([item] if is_row(item) else _collect(item, levels - 1) or [item])]
    return []


def open_envelope(document: Any) -> Any:
    """The rows inside the response of the hub's rows API, or inside a table that pandas wrote with its schema."""
    rows = document.get("rows")
    if isinstance(rows, list) and "features" in document and all(_has_row(item) for item in rows):
        return [item["row"] for item in rows]
    schema = document.get("schema")
    return document.get("data") if isinstance(schema, dict) and "pandas_version" in schema else document


def _has_row(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("row"), dict)


def _read_columns(value: Any) -> list[Any]:
    """The rows of an object of columns, each a list or, as pandas writes it, an object by the number of the row."""
    if not isinstance(value, dict) or len(value) < 2 or not is_row(dict.fromkeys(value)):
        return []
    columns = list(value.values())
    if all(isinstance(column, dict) for column in columns):
        if any(column.keys() != columns[0].keys() for column in columns):
            return []
        columns = [list(column.values()) for column in columns]
    elif not all(isinstance(column, list) for column in columns):
        return []
    if any(len(column) != len(columns[0]) for column in columns) or not any(map(_is_text_column, columns)):
        return []
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_text_column(column: list[Any]) -> bool:
    return bool(column) and all(item is None or isinstance(item, str) for item in column)


def _read_rows_by_key(value: dict[str, Any]) -> list[Any]:
    """The rows of an object that contains each under a key of its own."""
    rows = list(value.values())
    return rows if len(rows) > 1 and all(map(is_row, rows)) and not any(map(_read_columns, rows)) else []


def _collect_pairs(value: dict[str, Any]) -> list[Any]:
    """Pairs of a text and its label in the lists of an object (CLINC150)."""
    lists = [child for child in value.values() if isinstance(child, list)]
    return [row for child in lists for row in _read_text_list(child) if "label" in row]


def _read_text_list(items: list[Any]) -> list[dict[str, Any]]:
    if items and all(isinstance(item, str) for item in items):
        return [{"text": item} for item in items]
    if items and all(_is_pair(item) for item in items):
        return [{"text": text, "label": label} for text, label in items]
    return []


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)
