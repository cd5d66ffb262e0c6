"""The record of duplicate and similar pairs of rows, which every step that compares rows extends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.corpus.rows.rows import Rows, name_places
from tasks.corpus.rows.texts import show_conversation


def record_pairs(
    rows: Rows,
    table: pa.Table,
    kind: str,
    pairs: np.ndarray[Any, Any],
    similarity: np.ndarray[Any, Any],
    prompt_similarity: np.ndarray[Any, Any],
    dropped: bool,
) -> Rows:
    """Add pairs of rows to the record.

    Args:
        rows: The rows, whose record is extended.
        table: The table the pairs index, with ``id``.
        kind: The kind of similarity, such as ``near``.
        pairs: Row indices, shape (pairs, 2), the earlier row first.
        similarity: Similarity of the rows, per pair.
        prompt_similarity: Similarity of the prompts alone, per pair.
        dropped: Whether the later row of each pair is dropped as a duplicate.

    Returns:
        The rows with the longer record.
    """
    if not len(pairs):
        return rows
    first, second = (_describe_rows(table, pairs[:, side]) for side in (0, 1))
    added = pa.table(
        {
            "kind": pa.array([kind] * len(pairs), pa.string()),
            "dropped": pa.array([dropped] * len(pairs), pa.bool_()),
            **second,
            **{f"twin_{name}": column for name, column in first.items()},
            "similarity": pa.array(np.round(similarity, 4), pa.float64()),
            "prompt_similarity": pa.array(np.round(prompt_similarity, 4), pa.float64()),
        },
        schema=rows.twins.schema,
    )
    return replace(rows, twins=pa.concat_tables([rows.twins, added]))


def _describe_rows(table: pa.Table, indices: np.ndarray[Any, Any]) -> dict[str, pa.ChunkedArray]:
    selected = table.select(["source", "file", "row", "id", "label", "messages"]).take(pa.array(indices))
    return {
        "place": name_places(selected["source"], selected["file"]),
        "row": selected["row"],
        "id": selected["id"],
        "label": selected["label"],
        "text": pa.chunked_array(
            [[show_conversation(turns) for turns in selected["messages"].to_pylist()]], pa.string()
        ),
    }
