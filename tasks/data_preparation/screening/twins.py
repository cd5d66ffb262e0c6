"""Which row is like which: the record that every step that compares rows adds to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.corpus.rows.rows import Rows, name_places
from tasks.corpus.rows.texts import show_conversation


def record_twins(
    rows: Rows,
    table: pa.Table,
    kind: str,
    pairs: np.ndarray[Any, Any],
    similarity: np.ndarray[Any, Any],
    prompts: np.ndarray[Any, Any],
    dropped: bool,
) -> Rows:
    """Add pairs to the record.

    Args:
        rows: The rows, whose record grows.
        table: Where the pairs point to; with ``id``.
        kind: What kind of likeness it is.
        pairs: Shape (pairs, 2), the earlier row first.
        similarity: Of the rows, per pair.
        prompts: Of the prompts alone, per pair.
        dropped: Whether the later rows leave for it.
    """
    if not len(pairs):
        return rows
    first, second = (_side(table, pairs[:, side]) for side in (0, 1))
    found = pa.table(
        {
            "kind": pa.array([kind] * len(pairs), pa.string()),
            "dropped": pa.array([dropped] * len(pairs), pa.bool_()),
            **second,
            **{f"twin_{name}": column for name, column in first.items()},
            "similarity": pa.array(np.round(similarity, 4), pa.float64()),
            "prompt_similarity": pa.array(np.round(prompts, 4), pa.float64()),
        },
        schema=rows.twins.schema,
    )
    return replace(rows, twins=pa.concat_tables([rows.twins, found]))


def _side(table: pa.Table, places: np.ndarray[Any, Any]) -> dict[str, pa.ChunkedArray]:
    part = table.select(["source", "file", "row", "id", "label", "messages"]).take(pa.array(places))
    return {
        "place": name_places(part["source"], part["file"]),
        "row": part["row"],
        "id": part["id"],
        "label": part["label"],
        "text": pa.chunked_array([[show_conversation(turns) for turns in part["messages"].to_pylist()]], pa.string()),
    }
