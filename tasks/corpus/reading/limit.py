"""Keep at most so many rows of a stream, chosen by their content, in bounded memory.

Rows are drawn by the hash of their content, the smallest first (bottom-k sampling; Cohen and Kaplan,
"Summarizing Data using Bottom-k Sketches", PODC 2007). The choice is uniform over distinct rows, depends neither on
the order nor on the number of the rows, and a new row displaces at most one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import orjson
import pyarrow as pa

# What does not decide whether a row stays: where it stands, and what is only kept beside it.
LEFT_OUT = ("source", "file", "row", "extra")


class Kept:
    """The rows with the smallest hashes among those added, in the order in which they came.

    Args:
        limit: Most rows kept; None keeps all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._tables: list[pa.Table] = []
        self._hashes: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
        self._held = 0
        self.left_out = 0

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        self._tables.append(table)
        self._held += table.num_rows
        if self._limit is None:
            return
        self._hashes.append(hash_rows(table))
        if self._held > 2 * self._limit:
            self._shrink(self._limit)

    def finish(self) -> list[pa.Table]:
        """The rows that stay."""
        if self._limit is not None and self._held > self._limit:
            self._shrink(self._limit)
        return self._tables

    def _shrink(self, limit: int) -> None:
        hashes = np.concatenate(self._hashes)
        # Stable, so that of rows with one hash the earlier stays.
        stays = np.sort(np.argsort(hashes, kind="stable")[:limit])
        # Copied, since a view would keep everything that was ever added.
        kept = pa.concat_tables(self._tables).take(pa.array(stays)).combine_chunks()
        self.left_out += self._held - kept.num_rows
        self._tables, self._hashes, self._held = [kept], [hashes[stays]], kept.num_rows


def hash_rows(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """64 bits of SHA-256 over each row, without its place."""
    rows = table.select([name for name in table.column_names if name not in LEFT_OUT]).to_pylist()
    digests = b"".join(hashlib.sha256(orjson.dumps(row)).digest()[:8] for row in rows)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
