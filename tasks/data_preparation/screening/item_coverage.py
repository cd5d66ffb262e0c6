"""Which items of benchmarks a text contains, by the share of their words that it covers.

A text covers the words of an item that are in word n-grams of both. An item is contained when at least a given share of
its words is covered (Touvron et al. 2023, "Llama 2", section A.6, counts tokens so; Chowdhery et al. 2022, "PaLM",
section 8, takes 8-grams and a share of 70%). One shared n-gram (Brown et al. 2020, "GPT-3", appendix C: 13 words, of
which 200 characters on either side are removed) would condemn a row for a phrase that both quote.

An n-gram of 8 words that is in many items of a benchmark is boilerplate, such as an instruction before every question.
Only the words of other n-grams are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from tasks.corpus.reading.benchmark_items import MIN_NGRAM_WORDS, Items
from tasks.corpus.text.words import find_words

Array = np.ndarray[Any, Any]

# Least number of words that must be covered; of a text with fewer, all: another word makes another question.
MIN_COVERED_WORDS = 13

_SHIFT = np.uint64(40)
_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True)
class HashedWords:
    """The words of texts as hashes, one text after the other.

    Attributes:
        hashes: uint64.
        offsets: Text i owns ``hashes[offsets[i]:offsets[i + 1]]``.
    """

    hashes: Array
    offsets: Array

    def list_ngrams(self, size: int, texts: Array | None = None) -> tuple[Array, Array]:
        """Hash and offset of every n-gram, in order.

        Args:
            size: Words per n-gram.
            texts: The texts; None for all.
        """
        count = max(len(self.hashes) - size + 1, 0)
        inside = np.ones(count, dtype=bool)
        # N-grams that begin near the end of a text run on into the next one.
        for overhang in range(1, size):
            ends = self.offsets[1:] - overhang
            inside[ends[(ends >= 0) & (ends < count)]] = False
        if texts is not None:
            inside &= np.isin(self.find_texts(np.arange(count)), texts)
        first = np.flatnonzero(inside)
        ngrams = np.full(len(first), size, dtype=np.uint64)
        with np.errstate(over="ignore"):
            for step in range(size):
                ngrams = (ngrams ^ self.hashes[first + step]) * _PRIME
                ngrams ^= ngrams >> np.uint64(29)
        return ngrams, first

    def find_texts(self, offsets: Array) -> Array:
        """The text at each offset."""
        return np.searchsorted(self.offsets, offsets, side="right") - 1


def hash_words(words: Sequence[Sequence[str]]) -> HashedWords:
    """Hash the words of texts, given word by word."""
    return HashedWords(_hash(pl.Series(list(chain.from_iterable(words)), dtype=pl.String)), _offset(map(len, words)))


def hash_texts(texts: pl.Series) -> HashedWords:
    """Hash the words of texts, as `find_words` finds them; those of ASCII, as a rule nearly all, at once."""
    is_ascii = (texts.str.len_bytes() == texts.str.len_chars()).to_numpy()
    plain = texts.filter(pl.Series(is_ascii)).str.to_lowercase().str.extract_all(r"\w+")
    others = [find_words(text) for text in texts.filter(pl.Series(~is_ascii))]
    lengths = np.zeros(len(texts), dtype=np.int64)
    lengths[is_ascii] = plain.list.len()
    lengths[~is_ascii] = [len(words) for words in others]
    hashes = np.empty(lengths.sum(), dtype=np.uint64)
    is_plain = np.repeat(is_ascii, lengths)
    hashes[is_plain] = _hash(plain.filter(plain.list.len() > 0).explode())
    hashes[~is_plain] = hash_words(others).hashes
    return HashedWords(hashes, _offset(lengths))


def _offset(lengths: Iterable[int]) -> Array:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _hash(words: pl.Series) -> Array:
    return words.hash(seed=0).to_numpy()


@dataclass(frozen=True)
class ItemIndex:
    """The texts of benchmarks by those of their n-grams that are no boilerplate.

    Attributes:
        ngrams: Hashes, sorted.
        may_contain: Whether there is an n-gram with these first 24 bits: rules most out without a search.
        firsts: Per n-gram the offset of its first word in the texts.
        sizes: Per n-gram its words: of texts that are shorter than an n-gram all of them.
        texts: The words of the texts.
        is_own: Whether each word is in no boilerplate.
        counted: Number of words of each text in these n-grams.
        required: How many of them must be covered.
    """

    ngrams: Array
    may_contain: Array
    firsts: Array
    sizes: Array
    texts: HashedWords
    is_own: Array
    counted: Array
    required: Array

    def list_own_words(self, text: int, words: Sequence[str]) -> list[str]:
        """The words of a text, given all of them, that are in no boilerplate."""
        start = self.texts.offsets[text]
        return [
            word for word, is_own in zip(words, self.is_own[start : start + len(words)].tolist(), strict=True) if is_own
        ]


@dataclass(frozen=True)
class Contained:
    """Texts of items that are contained.

    Attributes:
        rows: Place of the text that contains one.
        texts: Place of the item's text, for each of ``rows``.
        covered: Words that are covered.
        shares: Their share.
    """

    rows: Array
    texts: Array
    covered: Array
    shares: Array


def find_boilerplate(items: Items, texts: HashedWords) -> Array:
    """Whether an n-gram of the shortest length that is in many items begins at each word."""
    ngrams, first = texts.list_ngrams(MIN_NGRAM_WORDS)
    item = np.array(items.numbers, dtype=np.int64)[texts.find_texts(first)]
    counts = pl.DataFrame({"ngram": ngrams, "item": item}).unique().group_by("ngram").len()
    common = counts.filter(pl.col("len") > items.boilerplate_limit)["ngram"].to_numpy()
    begins = np.zeros(len(texts.hashes), dtype=bool)
    begins[first[np.isin(ngrams, common)]] = True
    return begins


def index_items(benchmarks: Sequence[Items], size: int, share: float) -> ItemIndex:
    """Index the texts of all items, one benchmark after the other.

    Args:
        benchmarks: Their items.
        size: Words per n-gram.
        share: Share of a text's words that must be covered.
    """
    parts = [hash_words(items.words) for items in benchmarks]
    boilerplate = np.concatenate([np.zeros(0, dtype=bool), *map(find_boilerplate, benchmarks, parts)])
    starts = np.cumsum([0, *(len(part.hashes) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
    texts = HashedWords(
        np.concatenate([np.zeros(0, dtype=np.uint64), *(part.hashes for part in parts)]),
        np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
    )
    lengths = np.minimum(np.diff(texts.offsets), size)
    found = [
        (*texts.list_ngrams(width, np.flatnonzero(lengths == width)), width) for width in np.unique(lengths).tolist()
    ]
    ngrams = np.concatenate([np.zeros(0, dtype=np.uint64), *(hashes for hashes, _, _ in found)])
    firsts = np.concatenate([np.zeros(0, dtype=np.int64), *(first for _, first, _ in found)])
    sizes = np.concatenate([np.zeros(0, dtype=np.int64), *(np.full(len(first), width) for _, first, width in found)])
    # An n-gram is boilerplate where all of its n-grams of the shortest length are.
    others = np.concatenate([[0], np.cumsum(~boilerplate)])
    order = np.argsort(ngrams, kind="stable")
    order = order[others[firsts[order] + sizes[order] - MIN_NGRAM_WORDS + 1] > others[firsts[order]]]
    ngrams, firsts, sizes = ngrams[order], firsts[order], sizes[order]
    shortest = np.flatnonzero(boilerplate)
    is_own = ~_cover(len(boilerplate), shortest, np.full(len(shortest), MIN_NGRAM_WORDS))
    counted_before = np.concatenate([[0], np.cumsum(_cover(len(boilerplate), firsts, sizes))])
    counted = np.diff(counted_before[texts.offsets])
    required = np.minimum(counted, np.maximum(MIN_COVERED_WORDS, np.ceil(share * counted - 1e-9).astype(np.int64)))
    may_contain = np.zeros(1 << 24, dtype=bool)
    may_contain[ngrams >> _SHIFT] = True
    return ItemIndex(ngrams, may_contain, firsts, sizes, texts, is_own, counted, required)


def _cover(words: int, firsts: Array, sizes: Array) -> Array:
    """Whether each of so many words is in one of the n-grams."""
    begun, ended = (np.bincount(edges, minlength=words + 1) for edges in (firsts, firsts + sizes))
    covered: Array = np.cumsum(begun - ended)[:words] > 0
    return covered


def find_contained(rows: HashedWords, index: ItemIndex) -> Contained:
    """The texts of items that rows contain, sorted by row and by the number of covered words, the most first."""
    keys: list[Array] = [np.zeros(0, dtype=np.int64)]
    total = len(index.texts.hashes)
    for width in np.unique(index.sizes).tolist():
        hashes, first = rows.list_ngrams(width)
        known = np.flatnonzero(index.may_contain[hashes >> _SHIFT])
        low = np.searchsorted(index.ngrams, hashes[known])
        high = np.searchsorted(index.ngrams, hashes[known], side="right")
        # A row that repeats an n-gram contains it once: both sides may have a hundred thousand of the same.
        pairs = _sort_unique((rows.find_texts(first[known]) * len(index.ngrams) + low)[high > low])
        row, low = np.divmod(pairs, max(len(index.ngrams), 1))
        count = np.searchsorted(index.ngrams, index.ngrams[low], side="right") - low
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
        row = np.repeat(row, count)
        of_width = index.sizes[place] == width
        keys.append((row * total + index.firsts[place])[of_width])
    row, first = np.divmod(_sort_unique(np.concatenate(keys)), max(total, 1))
    text = index.texts.find_texts(first)
    end = first + np.minimum(np.diff(index.texts.offsets)[text], index.sizes.max(initial=0))
    # An n-gram's words up to the next n-gram of the same row and text.
    same = (row[1:] == row[:-1]) & (text[1:] == text[:-1])
    end[:-1][same] = np.minimum(end[:-1], first[1:])[same]
    begins = np.flatnonzero(np.concatenate([[True], ~same])) if len(row) else np.zeros(0, dtype=np.int64)
    covered = np.add.reduceat(end - first, begins) if len(row) else row
    row, text = row[begins], text[begins]
    enough = covered >= index.required[text]
    row, text, covered = row[enough], text[enough], covered[enough]
    order = np.lexsort((text, -covered, row))
    row, text, covered = row[order], text[order], covered[order]
    return Contained(row, text, covered, covered / index.counted[text])


def _sort_unique(keys: Array) -> Array:
    """Sorted unique keys; np.unique builds a hash table, which is slower here."""
    keys.sort()
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = keys[1:] != keys[:-1]
    return keys[is_first]
