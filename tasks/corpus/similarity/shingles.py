"""Character n-grams of texts, and the exact Jaccard similarity of their sets.

Texts are normalised first: lower case, single spaces, no sentence punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.corpus.text.words import fold_text

Array = np.ndarray[Any, Any]

PAIRS_PER_PRODUCT = 200_000
# Batches small enough for the processor's cache.
CODE_POINTS_PER_BATCH = 16_384

# `fold_text` as a translation of ASCII bytes: every character at which `str.split` splits becomes a space.
_IGNORED_PUNCTUATION = b".,!?;:'\""
_LOWERCASE_TABLE = bytes(range(256)).lower().translate(bytes.maketrans(b"\t\n\v\f\r\x1c\x1d\x1e\x1f", b" " * 9))
_NUMBER = re.compile(r"\d+")
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """N-gram hashes of all rows, one row after the other; an n-gram that a row repeats is repeated here.

    Attributes:
        hashes: uint64.
        offsets: Row i owns ``hashes[offsets[i]:offsets[i + 1]]``.
    """

    hashes: Array
    offsets: Array

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Array) -> Shingles:
        """The shingles of a selection of rows, in the given order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Shingles(self.hashes[positions], offsets)


def fold_texts(texts: Sequence[str]) -> list[str]:
    """`fold_text` of each text; ASCII texts, usually nearly all, are folded in one pass over their bytes."""
    joined = "\xff".join(filter(str.isascii, texts)).encode("latin-1").translate(_LOWERCASE_TABLE, _IGNORED_PUNCTUATION)
    while b"  " in joined:
        joined = joined.replace(b"  ", b" ")
    joined = joined.replace(b" \xff", b"\xff").replace(b"\xff ", b"\xff").strip(b" ")
    folded = iter(joined.decode("latin-1").split("\xff"))
    return [next(folded) if text.isascii() else fold_text(text) for text in texts]


def read_numbers(text: str) -> str:
    """All runs of digits, in order."""
    return " ".join(_NUMBER.findall(text))


def cut_shingles(texts: Sequence[str], size: int, salts: Sequence[int] = (0,)) -> Shingles:
    """Character n-grams of folded texts; a text shorter than ``size`` is padded to one n-gram.

    Args:
        texts: Folded texts.
        size: Characters per n-gram.
        salts: Assigned to the texts cyclically; different salts give different hashes, which keeps the n-grams of
            prompts apart from those of answers.
    """
    padded = [f" {text} ".ljust(size) for text in texts]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    code_points = np.frombuffer("".join(padded).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    count = max(len(code_points) - size + 1, 0)
    hashes = np.repeat(np.resize(np.array(salts, dtype=np.uint64) + np.uint64(1), len(padded)), lengths)[:count]
    for start in range(0, count, CODE_POINTS_PER_BATCH):
        _hash_ngrams(
            hashes[start : start + CODE_POINTS_PER_BATCH],
            code_points[start : start + CODE_POINTS_PER_BATCH + size - 1],
            size,
        )
    inside = np.ones(count, dtype=bool)
    # N-grams that begin near the end of a text run on into the next text.
    ends = np.cumsum(lengths)[:-1]
    for overhang in range(1, size):
        inside[ends - overhang] = False
    return Shingles(hashes[inside], np.concatenate([[0], np.cumsum(lengths - size + 1)]))


def _hash_ngrams(hashes: Array, code_points: Array, size: int) -> None:
    values = code_points.astype(np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(size):
            hashes *= _PRIME
            hashes += values[offset : offset + len(hashes)]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(29)


@dataclass(frozen=True)
class Sides:
    """Prompts and answers of all rows; their n-grams are computed on demand and not stored.

    Attributes:
        prompts: One per row.
        answers: One per row.
        size: Characters per n-gram.
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    size: int

    def cut_prompts(self, rows: Sequence[int]) -> Shingles:
        """N-grams of the prompts of the given rows."""
        return cut_shingles(fold_texts([self.prompts[row] for row in rows]), self.size)

    def cut_both(self, rows: Sequence[int]) -> Shingles:
        """N-grams of the prompts and the answers of the given rows."""
        texts = fold_texts([side[row] for row in rows for side in (self.prompts, self.answers)])
        sides = cut_shingles(texts, self.size, salts=(0, 1))
        return Shingles(sides.hashes, sides.offsets[::2])


def compute_jaccard(shingles: Shingles, pairs: Array) -> Array:
    """Exact Jaccard similarity of pairs of rows, shape (pairs,)."""
    if not len(pairs):
        return np.zeros(0)
    rows, positions = np.unique(pairs, return_inverse=True)
    return compute_place_jaccard(shingles.take(rows), positions.reshape(-1, 2))


def compute_place_jaccard(shingles: Shingles, positions: Array) -> Array:
    from scipy.sparse import csr_array

    encoded = pa.array(shingles.hashes).dictionary_encode()
    count = len(encoded.dictionary)
    rows, columns, sizes = deduplicate_ngrams(shingles, encoded.indices.to_numpy(), count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(rows), dtype=np.int32), columns, offsets), shape=(shingles.rows, count))
    shared_counts: list[Array] = []
    for start in range(0, len(positions), PAIRS_PER_PRODUCT):
        chunk = positions[start : start + PAIRS_PER_PRODUCT]
        shared_counts.append(np.asarray(matrix[chunk[:, 0]].multiply(matrix[chunk[:, 1]]).sum(axis=1)).ravel())
    intersections = np.concatenate(shared_counts)
    similarities: Array = intersections / (sizes[positions[:, 0]] + sizes[positions[:, 1]] - intersections)
    return similarities


def deduplicate_ngrams(shingles: Shingles, columns: Array, count: int) -> tuple[Array, Array, Array]:
    """Row and column of each distinct n-gram of a row, sorted, and the number of distinct n-grams per row.

    Args:
        shingles: The rows.
        columns: The column of each of their n-grams; equal n-grams have equal columns.
        count: Number of columns.
    """
    keys = np.repeat(np.arange(shingles.rows), np.diff(shingles.offsets)) * count + columns
    keys.sort()
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = keys[1:] != keys[:-1]
    rows, columns = np.divmod(keys[is_first], max(count, 1))
    return rows, columns, np.bincount(rows, minlength=shingles.rows)
