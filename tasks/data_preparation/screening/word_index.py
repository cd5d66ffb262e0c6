"""The words of all prompts as numbers, and the places of their rare phrases.

Memory is about 80 bytes a word at most, whatever the prompts: words are numbered in arrays of Arrow, a batch at a time,
and an n-gram is followed only where the two shorter ones that it consists of are in enough rows (Agrawal and Srikant
1994, "Fast Algorithms for Mining Association Rules", VLDB).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, Any]

# Words of a candidate before it is extended.
MAX_CANDIDATE_WORDS = 4
# A word beside the phrase in this share of its rows belongs to it, up to so many words.
EXTENSION_SHARE, MAX_WORDS = 0.9, 40
# Words that are strings of Python at once.
WORDS_PER_BATCH = 20_000

# Words, and characters other than usual punctuation: a trigger may be an emoji.
_WORD = re.compile(r"\w+|[^\w\s.,:;!?'\"()/\-–—…‘’“”]+")


@dataclass(frozen=True)
class WordIndex:
    """The prompts as words, and the n-grams of one to four words that are in neither too few nor too many rows.

    Attributes:
        names: The vocabulary, strings of Arrow.
        matrix: 1 where a row contains a word, sparse, shape (rows, words).
        flat: The words of all rows in order, as indices into the vocabulary.
        begins: Offset of each row in ``flat``, and the end.
        owners: Row of each word of ``flat``.
        starts: Offset in ``flat`` of each n-gram, one after the other, each once per row that contains it.
        ngram_begins: Offset of each n-gram in ``starts``, and the end.
        ngram_sizes: Number of words of each n-gram, in ascending order.
    """

    names: pa.Array
    matrix: Any
    flat: Array
    begins: Array
    owners: Array
    starts: Array
    ngram_begins: Array
    ngram_sizes: Array

    def extend_phrase(self, starts: Array, size: int) -> tuple[int, ...]:
        """A phrase with the words beside it in nearly all of its rows, trimmed of words that most rows contain.

        Args:
            starts: Offsets of the phrase in ``flat``.
            size: Words of the phrase.
        """
        rows = self.owners[starts]
        ends = starts + size
        words = [int(word) for word in self.flat[starts[0] : ends[0]]]
        while len(words) < MAX_WORDS and (word := self._common_word(starts - 1, self.begins[rows], ends)) is not None:
            words, starts = [word, *words], starts - 1
        while len(words) < MAX_WORDS and (word := self._common_word(ends, starts, self.begins[rows + 1])) is not None:
            words, ends = [*words, word], ends + 1
        rare = [place for place, word in enumerate(words) if self.row_counts[word] <= self.matrix.shape[0] / 2]
        return tuple(words[rare[0] : rare[-1] + 1]) if rare else tuple(words)

    def _common_word(self, places: Array, first: Array, end: Array) -> int | None:
        in_row = (places >= first) & (places < end)
        if not in_row.any():
            return None
        words, counts = np.unique(self.flat[places[in_row]], return_counts=True)
        return int(words[counts.argmax()]) if counts.max() >= EXTENSION_SHARE * len(places) else None

    @cached_property
    def row_counts(self) -> Array:
        """Number of rows that contain each word."""
        return np.bincount(self.matrix.indices, minlength=self.matrix.shape[1])

    @cached_property
    def weights(self) -> Any:
        """The matrix weighted by inverse document frequency, each row of unit length."""
        rarity = np.log(self.matrix.shape[0] / np.maximum(self.row_counts, 1.0))
        weighted = self.matrix.astype(float)
        weighted.data *= rarity[weighted.indices]
        return normalize_rows(weighted)


def normalize_rows(matrix: Any) -> Any:
    """The rows of a sparse matrix, each of unit length."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled = matrix.copy()
    scaled.data /= np.repeat(np.where(lengths > 0, lengths, 1.0), np.diff(scaled.indptr))
    return scaled


def find_marks(text: str) -> Iterator[str]:
    """The words of a text in lower case; characters other than usual punctuation are words too."""
    return (match.group() for match in _WORD.finditer(text.casefold()))


def index_words(prompts: Sequence[str], min_rows: int, max_rows: float) -> WordIndex:
    """Index the words of prompts, and the n-grams that are in ``min_rows`` to ``max_rows`` rows."""
    from scipy.sparse import csr_array

    names, flat, begins = _number_words(prompts)
    owners = np.repeat(np.arange(len(prompts), dtype=np.int32), np.diff(begins))
    shape = (len(prompts), max(len(names), 1))
    # The matrix sorts its indices in place.
    matrix = csr_array((np.ones(len(flat), dtype=np.float32), flat.copy(), begins), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return WordIndex(names, matrix, flat, begins, owners, *_find_ngrams(flat, owners, min_rows, max_rows))


def _number_words(prompts: Sequence[str]) -> tuple[pa.Array, Array, Array]:
    """The vocabulary in order of first occurrence, the words of all prompts as indices, and each prompt's offset."""
    chunks = [pa.array([], pa.large_string()).dictionary_encode()]
    lengths = np.zeros(len(prompts), dtype=np.int64)
    batch: list[str] = []
    for place, prompt in enumerate(prompts):
        words = find_marks(prompt)
        while part := list(islice(words, WORDS_PER_BATCH)):
            lengths[place] += len(part)
            batch += part
            if len(batch) >= WORDS_PER_BATCH:
                chunks.append(pa.array(batch, pa.large_string()).dictionary_encode())
                batch = []
    chunks.append(pa.array(batch, pa.large_string()).dictionary_encode())
    numbered = pa.chunked_array(chunks).unify_dictionaries()
    flat = np.concatenate([np.asarray(chunk.indices) for chunk in numbered.chunks])
    return numbered.chunk(0).dictionary, flat, np.concatenate([[0], np.cumsum(lengths)])


def _find_ngrams(flat: Array, owners: Array, min_rows: int, max_rows: float) -> tuple[Array, Array, Array]:
    """Offsets of the n-grams in neither too few nor too many rows, where each begins among them, and their words."""
    words = _mix(flat.astype(np.uint64))
    starts: Array = np.arange(len(flat), dtype=np.int32 if len(flat) < np.iinfo(np.int32).max else np.int64)
    hashes = words
    found: list[Array] = []
    counts: list[Array] = []
    for size in range(1, MAX_CANDIDATE_WORDS + 1):
        candidates, rows, is_frequent = _count_rows(hashes, starts, owners, min_rows, max_rows)
        found.append(candidates)
        counts.append(rows)
        # The next size: both n-grams of this size that it consists of are frequent and in one row.
        follows = is_frequent[starts] & is_frequent[starts + 1]
        follows[follows] = owners[starts[follows]] == owners[starts[follows] + size]
        starts, hashes = starts[follows], hashes[follows]
        hashes ^= words[starts + size]
        hashes = _mix(hashes)
    sizes = np.repeat(np.arange(1, MAX_CANDIDATE_WORDS + 1), list(map(len, counts)))
    return np.concatenate(found), np.concatenate([[0], np.cumsum(np.concatenate(counts))]), sizes


def _count_rows(
    hashes: Array, starts: Array, owners: Array, min_rows: int, max_rows: float
) -> tuple[Array, Array, Array]:
    """Offsets of the n-grams in neither too few nor too many rows, their rows, and where an n-gram in enough starts."""
    # Equal n-grams one after the other, each in order of its rows.
    order = np.argsort(hashes, kind="stable")
    is_new = _mark_changes(hashes[order])
    in_order = starts[order]
    del order
    is_first = is_new | _mark_changes(owners[in_order])
    begins = np.flatnonzero(is_new)
    rows = np.add.reduceat(is_first, begins, dtype=np.int64) if len(begins) else begins
    repeats = np.diff(begins, append=len(in_order))
    is_candidate = (rows >= min_rows) & (rows <= max_rows)
    is_frequent = np.zeros(len(owners) + 1, dtype=bool)
    is_frequent[in_order[np.repeat(rows >= min_rows, repeats)]] = True
    return in_order[is_first & np.repeat(is_candidate, repeats)], rows[is_candidate], is_frequent


def _mark_changes(values: Array) -> Array:
    changes = np.ones(len(values), dtype=bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


def _mix(values: Array) -> Array:
    """Hashes of 64 bits (the finalizer of SplitMix64), in place."""
    with np.errstate(over="ignore"):
        values += np.uint64(0x9E3779B97F4A7C15)
        values ^= values >> np.uint64(30)
        values *= np.uint64(0xBF58476D1CE4E5B9)
        values ^= values >> np.uint64(27)
        values *= np.uint64(0x94D049BB133111EB)
        values ^= values >> np.uint64(31)
    return values
