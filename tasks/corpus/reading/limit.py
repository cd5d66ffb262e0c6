"""Sample at most a given number of rows from a stream by content hash, in bounded memory.

The rows with the smallest content hashes are sampled (bottom-k sampling; Cohen and Kaplan,
"Summarizing Data using Bottom-k Sketches", PODC 2007). The sample is uniform over distinct rows, independent
of the order of the rows, and a new row displaces at most one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import orjson
import pyarrow as pa

from tasks.contracts.records import STEPS, UNTRAINED

# Columns outside the content hash: the position of a row, and columns kept only for extra.parquet.
EXCLUDED_COLUMNS = ("source", "file", "row", "extra")


class RowSample:
    """The rows with the smallest content hashes among those added, in the order of their addition.

    Args:
        limit: Maximum number of rows; None keeps all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._tables: list[pa.Table] = []
        self._hashes: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
        self._rows = 0
        self.left_out = 0

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        self._tables.append(table)
        self._rows += table.num_rows
        if self._limit is None:
            return
        self._hashes.append(hash_rows(table))
        if self._rows > 2 * self._limit:
            self._shrink(self._limit)

    def finish(self) -> list[pa.Table]:
        """The sampled rows."""
        if self._limit is not None and self._rows > self._limit:
            self._shrink(self._limit)
        return self._tables

    def _shrink(self, limit: int) -> None:
        hashes = np.concatenate(self._hashes)
        # Stable, so that the earlier of two rows with equal hashes is sampled.
        smallest = np.sort(np.argsort(hashes, kind="stable")[:limit])
        # Copied, because a view would keep all added rows in memory.
        sample = pa.concat_tables(self._tables, promote_options="default").take(pa.array(smallest)).combine_chunks()
        self.left_out += self._rows - sample.num_rows
        self._tables, self._hashes, self._rows = [sample], [hashes[smallest]], sample.num_rows


def hash_rows(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The first 64 bits of SHA-256 of the content of each row."""
    rows = table.select([name for name in table.column_names if name not in EXCLUDED_COLUMNS]).to_pylist()
    for row in rows:
        # Not every part of a source has these columns, and its rows must hash the same in all of them.
        for field in (UNTRAINED, STEPS):
            if field.name in row and row[field.name] is None:
                del row[field.name]
    digests = b"".join(hashlib.sha256(orjson.dumps(row)).digest()[:8] for row in rows)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
