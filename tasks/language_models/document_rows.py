"""Documents as training rows: one document a row, or all of them one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from tasks.contracts.progress import track
from tasks.language_models.documents import cut_row, document_ids, is_document
from tasks.language_models.encoding import IGNORED

if TYPE_CHECKING:
    import pyarrow as pa

# How documents share rows: each by itself, or one after another over the ends of rows.
Blocks = Literal["document", "wrapped"]
_BATCH = 256


def find_documents(examples: pa.Table) -> list[bool]:
    """Which rows of the schema `EXAMPLES` are documents: a single turn, of the assistant."""
    return [is_document(turns) for turns in examples["messages"].to_pylist()]


def encode_documents(examples: pa.Table, tokenizer: Any, max_tokens: int, blocks: Blocks = "document") -> pa.Table:
    """Tokenize documents into rows of at most ``max_tokens``.

    Args:
        examples: Rows of the schema `EXAMPLES`, documents all of them.
        tokenizer: The base's.
        max_tokens: Length of a row.
        blocks: ``document``: rows of one document each; ``wrapped``: all documents as one text, cut into full rows, so
            that a document also sees what stands before it in its row.

    Returns:
        Rows of `ENCODED` in the order of the documents. ``full_length`` is the number of tokens of the document,
        ``place`` its number; of a wrapped row those of the document that it begins with.

    Raises:
        PipelineError: The tokenizer has no end-of-text token.
    """
    import numpy as np
    import pyarrow as pa

    from tasks.contracts.records import ENCODED

    starts = range(0, examples.num_rows, _BATCH)
    ids = examples["id"].to_pylist()
    documents: list[list[int]] = []
    for start in track(starts, "tokenizing"):
        turns = examples["messages"].slice(start, _BATCH).to_pylist()
        documents += document_ids(tokenizer, [row[0]["content"] for row in turns])
    rows, places = (_wrap if blocks == "wrapped" else _cut_each)(documents, max_tokens)
    flat = np.array([token for row in rows for token in row], dtype=np.int32)
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    labels = flat.copy()
    labels[ends[:-1]] = IGNORED
    offsets = pa.array(ends, pa.int32())
    return pa.Table.from_arrays(
        [
            pa.array([ids[place] for place in places], pa.string()),
            pa.ListArray.from_arrays(offsets, pa.array(flat, pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(labels, pa.int32())),
            pa.array([len(documents[place]) for place in places], pa.int64()),
            pa.nulls(len(rows), pa.string()),
            pa.array(places, pa.int64()),
        ],
        schema=ENCODED,
    )


def _cut_each(documents: Sequence[list[int]], size: int) -> tuple[list[list[int]], list[int]]:
    """Rows of each document by itself, and the document of each row."""
    rows, places = [], []
    for place, document in enumerate(documents):
        for row in cut_row(document, size):
            rows.append(row)
            places.append(place)
    return rows, places


def _wrap(documents: Sequence[list[int]], size: int) -> tuple[list[list[int]], list[int]]:
    """Rows of all documents one after another, and the document that each row begins with."""
    # The end of one document is what the next one begins after, so it is not written twice.
    import numpy as np

    stream = [token for place, document in enumerate(documents) for token in (document[1:] if place else document)]
    ends = np.cumsum([len(document) - 1 for document in documents])
    rows = cut_row(stream, size)
    firsts = [number * (size - 1) for number in range(len(rows))]
    return rows, [int(place) for place in np.searchsorted(ends, firsts, side="right")]
