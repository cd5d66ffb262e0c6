"""Benchmark contamination: rows that contain items of benchmarks, on which a model must not be trained.

A row is contaminated by an item when

* both contain the same word 13-gram (Brown et al. 2020, appendix C: lower case, without punctuation). A text of 8 to 12
  words (8 is the lower bound of that paper) must be contained whole, and be at least half of its item or of the row:
  what is less is a phrase that people quote. An n-gram with 8 words that occur in more than 10 items of a benchmark is
  boilerplate (an instruction before every question) and does not count; or
* a prompt, or an answer, is a near duplicate of a text of the item (MinHash, then exact Jaccard similarity of
  character n-grams), for texts of at least 8 words; or
* a prompt, or a plain text, equals a text of the item up to case, spaces and sentence punctuation, for texts of 3 to 7
  words.

The texts of an item are the values of its columns, each compared separately.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.errors import PipelineError, raise_all
from tasks.corpus.reading.benchmark_items import MIN_NGRAM_WORDS, Items, read_items
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.rows.rows import Listing, Rows, column_messages, find_plain, finish_step, name_places, row_of_turn
from tasks.corpus.rows.texts import CONVERSATION_CHARACTERS, make_visible, show_conversation
from tasks.corpus.similarity import find_between, sign_texts
from tasks.corpus.text.folds import fold_prompts
from tasks.corpus.text.words import find_words
from tasks.data_preparation.screening.params import Contamination

Array = np.ndarray[Any, Any]

# N-grams of the shortest length in more items than this are boilerplate of the benchmark.
BOILERPLATE_ITEMS = 10
# A text shorter than an n-gram counts if it is at least this share of its item, or of the row.
MIN_SHARE = 0.5
# Rows that are looked up at once, which bounds the memory.
BATCH_ROWS = 20_000

_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True)
class Contaminant:
    """The benchmark item that contaminates a row.

    Attributes:
        title: Title of the benchmark.
        item: Number of the item.
        match: ``words`` (shared n-grams), ``near`` (near duplicate) or ``same`` (identical prompt).
        text: Text of the item.
        similarity: Share of the item's n-grams that the row contains, or Jaccard similarity.
    """

    title: str
    item: int
    match: Literal["words", "near", "same"]
    text: str
    similarity: float


def remove_contamination(rows: Rows, settings: Contamination, root: Path) -> Rows:
    """Drop the rows that contain items of benchmarks, or only report them.

    Args:
        rows: With ``id``.
        settings: Benchmarks and thresholds.
        root: Folder that relative paths start from.

    Returns:
        The rows that remain; all of them when there is no benchmark.

    Raises:
        PipelineError: A benchmark is missing or empty, differs from its pinned hash, or lacks a column.
    """
    if not settings.benchmarks:
        return rows
    contaminants: dict[int, Contaminant] = {}
    counts: list[tuple[str | int | float, ...]] = []
    benchmarks = _read_benchmarks(settings.benchmarks, root)
    shared_ngrams = find_shared_ngrams(rows.table, benchmarks, settings.words)
    near_duplicates = find_near_duplicate_items(rows.table, benchmarks, settings.near)
    identical_prompts = find_identical_prompts(rows.table, benchmarks)
    for items, by_ngrams, by_near_duplicate, by_identical_prompt in zip(
        benchmarks, shared_ngrams, near_duplicates, identical_prompts, strict=True
    ):
        matches = {**by_identical_prompt, **by_near_duplicate, **by_ngrams}
        for row, contaminant in matches.items():
            contaminants.setdefault(row, contaminant)
        matched_items = {
            contaminant.item
            for kind in (by_ngrams, by_near_duplicate, by_identical_prompt)
            for contaminant in kind.values()
        }
        kinds = (len(by_ngrams), len(by_near_duplicate), len(by_identical_prompt))
        counts.append((items.title, items.rows, items.short, *kinds, len(matches), len(matched_items)))
    reasons = [
        None if contaminant is None else f"holds an item of benchmark {contaminant.title}"
        for contaminant in (contaminants.get(row) for row in range(rows.table.num_rows))
    ]
    dropped = settings.action == "drop"
    rows = _record(rows, contaminants, dropped)
    listing = Listing(
        "Benchmark contamination",
        (
            "benchmark",
            "items",
            "short texts",
            f"{settings.words}-gram",
            "near duplicate",
            "identical prompt",
            "rows",
            "items found",
        ),
        tuple(counts),
        note=f"Contaminated rows by kind of match and in total; they are {'dropped' if dropped else 'kept'}. Short "
        "texts of items are not compared.",
    )
    notes: dict[str, int | float] = {"contaminated": len(contaminants), "benchmarks": len(counts)}
    reasons = reasons if dropped else [None] * len(reasons)
    return finish_step(rows, "contamination", rows.table, reasons, notes=notes, listings=[listing])


def _record(rows: Rows, contaminants: Mapping[int, Contaminant], dropped: bool) -> Rows:
    if not contaminants:
        return rows
    selected = rows.table.take(pa.array(list(contaminants), pa.int64()))
    items = list(contaminants.values())
    table = pa.table(
        {
            "kind": ["contamination"] * len(items),
            "dropped": [dropped] * len(items),
            "place": name_places(selected["source"], selected["file"]),
            "row": selected["row"],
            "id": selected["id"],
            "label": selected["label"],
            "text": [show_conversation(turns) for turns in selected["messages"].to_pylist()],
            "twin_place": [f"benchmark {contaminant.title}" for contaminant in items],
            "twin_row": [contaminant.item for contaminant in items],
            "twin_id": [f"{contaminant.title} {contaminant.item}" for contaminant in items],
            "twin_label": pa.array([None] * len(items), pa.string()),
            "twin_text": [make_visible(contaminant.text[:CONVERSATION_CHARACTERS]) for contaminant in items],
            "similarity": [round(contaminant.similarity, 4) for contaminant in items],
            "prompt_similarity": [round(contaminant.similarity, 4) for contaminant in items],
        },
        schema=rows.twins.schema,
    )
    return replace(rows, twins=pa.concat_tables([rows.twins, table]))


def _read_benchmarks(benchmarks: Sequence[Benchmark], root: Path) -> list[Items]:
    items, problems = [], []
    for benchmark in benchmarks:
        try:
            items.append(read_items(benchmark, root))
        except PipelineError as error:
            problems.append(str(error))
    raise_all(problems, "contamination")
    return items


def hash_word_ngrams(words: Sequence[Sequence[str]], size: int) -> tuple[Array, Array, Array]:
    """Hashes of the word n-grams of each text. A shorter text is one n-gram of all its words; an empty one has none.

    Args:
        words: The words of each text.
        size: Words per n-gram.

    Returns:
        Per n-gram its hash, the index of its text, and the index of its first word in the text.
    """
    lengths = np.array([len(text) for text in words], dtype=np.int64)
    hashes_of: dict[str, np.uint64] = {}
    codes = np.array([_hash_word(word, hashes_of) for text in words for word in text], dtype=np.uint64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    hashes: list[Array] = []
    owners: list[Array] = []
    positions: list[Array] = []
    for width in np.unique(np.minimum(lengths, size)).tolist():
        if not width:
            continue
        of_width = np.minimum(lengths, size) == width
        count = np.where(of_width, lengths - width + 1, 0)
        text = np.repeat(np.arange(len(words)), count)
        begin = np.arange(len(text)) - np.repeat(np.cumsum(count) - count, count)
        first = begin + starts[text]
        ngram = np.full(len(text), width, dtype=np.uint64)
        with np.errstate(over="ignore"):
            for step in range(width):
                ngram = (ngram ^ codes[first + step]) * _PRIME
                ngram ^= ngram >> np.uint64(29)
        hashes.append(ngram)
        owners.append(text)
        positions.append(begin)
    if not hashes:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(hashes), np.concatenate(owners), np.concatenate(positions)


def _is_boilerplate(items: Items, owners: Array, positions: Array, size: int) -> Array:
    # Every text has at least as many words as the shortest n-gram, so the hashes are ordered by text and position.
    short, of_text, _ = hash_word_ngrams(items.words, MIN_NGRAM_WORDS)
    of_item = np.array(items.numbers, dtype=np.uint64)[of_text]
    values, items_with = np.unique(np.unique(np.stack([short, of_item], axis=1), axis=0)[:, 0], return_counts=True)
    common = np.concatenate([[0], np.cumsum(np.isin(short, values[items_with > BOILERPLATE_ITEMS]))])
    count = np.bincount(of_text, minlength=len(items.texts))
    first = (np.cumsum(count) - count)[owners] + positions
    last = np.minimum(first + size - MIN_NGRAM_WORDS + 1, np.cumsum(count)[owners])
    boilerplate: Array = common[last] > common[first]
    return boilerplate


def _hash_word(word: str, cache: dict[str, np.uint64]) -> np.uint64:
    code = cache.get(word)
    if code is None:
        code = np.uint64(int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()))
        cache[word] = code
    return code


@dataclass(frozen=True)
class NgramIndex:
    """The word n-grams of a benchmark's texts, without boilerplate.

    Attributes:
        ngrams: Sorted hashes.
        owners: Per n-gram its text.
        counts: N-grams of each text.
        widths: Lengths of the n-grams.
        is_minor: Whether each text is shorter than an n-gram and less than half of its item.
    """

    ngrams: Array
    owners: Array
    counts: Array
    widths: tuple[int, ...]
    is_minor: Array


def _index_ngrams(items: Items, size: int) -> NgramIndex:
    ngrams, owners, positions = hash_word_ngrams(items.words, size)
    if items.texts:
        keep = ~_is_boilerplate(items, owners, positions, size)
        ngrams, owners = ngrams[keep], owners[keep]
    order = np.argsort(ngrams, kind="stable")
    numbers = np.array(items.numbers, dtype=np.int64)
    lengths = np.array([len(words) for words in items.words], dtype=np.int64)
    is_minor = (lengths < size) & (lengths < MIN_SHARE * np.bincount(numbers, weights=lengths)[numbers])
    counts = np.bincount(owners, minlength=len(items.texts))
    widths = tuple(sorted({min(length, size) for length in lengths.tolist()}))
    return NgramIndex(ngrams[order], owners[order], counts, widths, is_minor)


def find_shared_ngrams(table: pa.Table, benchmarks: Sequence[Items], size: int) -> list[dict[int, Contaminant]]:
    """Per benchmark the rows that share word n-grams with its items, each with the item it shares most with.

    Args:
        table: The rows.
        benchmarks: Their items.
        size: Words per n-gram.
    """
    indexes = [_index_ngrams(items, size) for items in benchmarks]
    widths = sorted({width for index in indexes for width in index.widths})
    found: list[dict[int, Contaminant]] = [{} for _ in benchmarks]
    for start in range(0, table.num_rows if widths else 0, BATCH_ROWS):
        texts = [
            find_words("\n".join(turn["content"] for turn in turns if turn["role"] != "system"))
            for turns in table["messages"].slice(start, BATCH_ROWS).to_pylist()
        ]
        hashes = {width: hash_word_ngrams(texts, width)[:2] for width in widths}
        for items, index, of_benchmark in zip(benchmarks, indexes, found, strict=True):
            shared: Counter[tuple[int, int]] = Counter()
            for width in index.widths:
                _count_shared(*hashes[width], index, shared)
            for (row, text), count in sorted(shared.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0][1])):
                if index.is_minor[text] and len(items.words[text]) < MIN_SHARE * len(texts[row]):
                    continue
                share = min(count / index.counts[text], 1.0)
                contaminant = Contaminant(items.title, items.numbers[text], "words", items.texts[text], share)
                of_benchmark.setdefault(start + row, contaminant)
    return found


def _count_shared(hashes: Array, rows: Array, index: NgramIndex, shared: Counter[tuple[int, int]]) -> None:
    """Add the n-grams that each row and each text have in common."""
    left, right = np.searchsorted(index.ngrams, hashes), np.searchsorted(index.ngrams, hashes, side="right")
    for place in np.flatnonzero(right > left).tolist():
        for text in index.owners[left[place] : right[place]].tolist():
            shared[int(rows[place]), text] += 1


def find_near_duplicate_items(
    table: pa.Table, benchmarks: Sequence[Items], threshold: float | None
) -> list[dict[int, Contaminant]]:
    """Per benchmark the rows of which a prompt or an answer is a near duplicate of a text of an item.

    Each row comes with its most similar item.

    Args:
        table: The rows.
        benchmarks: Their items.
        threshold: Smallest Jaccard similarity of character n-grams; None: there are none.
    """
    found: list[dict[int, Contaminant]] = [{} for _ in benchmarks]
    if threshold is None:
        return found
    texts = sign_texts([text for items in benchmarks for text in items.texts])
    starts = np.cumsum([0, *(len(items.texts) for items in benchmarks)])
    for first_row in range(0, table.num_rows, BATCH_ROWS):
        messages = column_messages(table.slice(first_row, BATCH_ROWS))
        turns = messages.flatten()
        is_compared = np.asarray(pc.is_in(turns.field("role"), pa.array(["user", "assistant"])))
        rows = row_of_turn(messages)[is_compared] + first_row
        compared = sign_texts(turns.field("content").filter(pa.array(is_compared)).to_pylist())
        pairs, similarity = find_between(texts, compared, threshold)
        of_benchmark = np.searchsorted(starts, pairs[:, 0], side="right") - 1
        for pair in np.lexsort((pairs[:, 0], -similarity)).tolist():
            number, row = int(of_benchmark[pair]), int(rows[pairs[pair, 1]])
            items, text = benchmarks[number], int(pairs[pair, 0] - starts[number])
            contaminant = Contaminant(
                items.title, items.numbers[text], "near", items.texts[text], float(similarity[pair])
            )
            found[number].setdefault(row, contaminant)
    return found


def find_identical_prompts(table: pa.Table, benchmarks: Sequence[Items]) -> list[dict[int, Contaminant]]:
    """Per benchmark the rows of which a prompt, or the whole plain text, equals a short text of an item."""
    messages = column_messages(table)
    turns = messages.flatten()
    rows = row_of_turn(messages)
    is_compared = np.asarray(pc.equal(turns.field("role"), "user")) | find_plain(messages)[rows]
    texts = pl.Series(turns.field("content").filter(pa.array(is_compared)), dtype=pl.String)
    folded = fold_prompts(texts)
    found: list[dict[int, Contaminant]] = [{} for _ in benchmarks]
    for items, of_benchmark in zip(benchmarks, found, strict=True):
        for place in folded.is_in(list(items.whole)).arg_true().to_list():
            contaminant = Contaminant(items.title, items.whole[folded[place]], "same", texts[place], 1.0)
            of_benchmark.setdefault(int(rows[is_compared][place]), contaminant)
    return found
