"""Rows that hold items of benchmarks, which a model must not have been trained on.

A row is contaminated by an item when

* 13 words in a row stand in both (Brown et al. 2020, appendix C: overlap of 13-grams, folded to lower case, without
  punctuation). Of a text of fewer words all must, and it must have at least 8, their lower bound. Runs that hold 8
  words which stand in more than 10 items of a benchmark are its boilerplate (an instruction before every question) and
  do not count; or
* the prompt, or an answer, is a near duplicate of a text of the item (MinHash, then exact Jaccard similarity of
  character n-grams), for texts of at least 8 words too; or
* the prompt is a text of the item, but for case, spaces and punctuation, for texts of 3 to 7 words.

An item's texts are the values of its columns, each for itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tasks.contracts.errors import PipelineError, raise_all
from tasks.corpus.reading.benchmark_items import MIN_NGRAM_WORDS, Items, read_items
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.rows.rows import Listing, Rows, column_messages, finish_step, join_turns, name_places
from tasks.corpus.rows.texts import CONVERSATION_CHARACTERS, make_visible, show_conversation
from tasks.corpus.similarity import find_between
from tasks.corpus.text.words import find_words, fold_text
from tasks.data_preparation.screening.params import Contamination

Array = np.ndarray[Any, Any]

COMMON = 10
# Rows whose words are looked up at once.
CHUNK = 20_000

_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Hit:
    """How a row is contaminated.

    Attributes:
        title: The benchmark.
        item: Number of the item.
        how: ``words``, ``near`` or ``same``.
        text: The item's text.
        similarity: Share of the words in common runs, or Jaccard similarity.
    """

    title: str
    item: int
    how: Literal["words", "near", "same"]
    text: str
    similarity: float


def remove_contamination(rows: Rows, settings: Contamination, root: Path) -> Rows:
    """Drop the rows that hold items of benchmarks, or only report them.

    Args:
        rows: With ``id``.
        settings: Benchmarks and limits.
        root: What relative paths are relative to.

    Returns:
        The rows that are left; all of them, when there is no benchmark.

    Raises:
        PipelineError: A benchmark is missing, empty or another than pinned, or lacks a column.
    """
    if not settings.benchmarks:
        return rows
    hits: dict[int, Hit] = {}
    counts: list[tuple[str | int | float, ...]] = []
    for items in _read_all(settings.benchmarks, root):
        by_words = find_runs(rows.table, items, settings.words)
        by_nearness = {} if settings.near is None else find_near_items(rows.table, items, settings.near)
        by_sameness = find_same_prompts(rows.table, items)
        found = {**by_sameness, **by_nearness, **by_words}
        for row, hit in found.items():
            hits.setdefault(row, hit)
        held = {hit.item for kind in (by_words, by_nearness, by_sameness) for hit in kind.values()}
        kinds = (len(by_words), len(by_nearness), len(by_sameness))
        counts.append((items.title, items.rows, items.short, *kinds, len(found), len(held)))
    reasons = [
        None if hit is None else f"holds an item of benchmark {hit.title}"
        for hit in (hits.get(row) for row in range(rows.table.num_rows))
    ]
    dropped = settings.action == "drop"
    rows = _record(rows, hits, dropped)
    listing = Listing(
        "Contamination by benchmarks",
        (
            "benchmark",
            "items",
            "texts too short",
            f"rows: {settings.words} words",
            "rows: near",
            "rows: same",
            "rows",
            "items held",
        ),
        tuple(counts),
        note=f"Rows that hold items are {'dropped' if dropped else 'kept'}.",
    )
    notes: dict[str, int | float] = {"contaminated": len(hits), "benchmarks": len(counts)}
    reasons = reasons if dropped else [None] * len(reasons)
    return finish_step(rows, "contamination", rows.table, reasons, notes=notes, listings=[listing])


def _record(rows: Rows, hits: Mapping[int, Hit], dropped: bool) -> Rows:
    if not hits:
        return rows
    part = rows.table.take(pa.array(list(hits), pa.int64()))
    found = list(hits.values())
    table = pa.table(
        {
            "kind": ["contamination"] * len(found),
            "dropped": [dropped] * len(found),
            "place": name_places(part["source"], part["file"]),
            "row": part["row"],
            "id": part["id"],
            "label": part["label"],
            "text": [show_conversation(turns) for turns in part["messages"].to_pylist()],
            "twin_place": [f"benchmark {hit.title}" for hit in found],
            "twin_row": [hit.item for hit in found],
            "twin_id": [f"{hit.title} {hit.item}" for hit in found],
            "twin_label": pa.array([None] * len(found), pa.string()),
            "twin_text": [make_visible(hit.text[:CONVERSATION_CHARACTERS]) for hit in found],
            "similarity": [round(hit.similarity, 4) for hit in found],
            "prompt_similarity": [round(hit.similarity, 4) for hit in found],
        },
        schema=rows.twins.schema,
    )
    return replace(rows, twins=pa.concat_tables([rows.twins, table]))


def _read_all(benchmarks: Sequence[Benchmark], root: Path) -> list[Items]:
    read, problems = [], []
    for benchmark in benchmarks:
        try:
            read.append(read_items(benchmark, root))
        except PipelineError as error:
            problems.append(str(error))
    raise_all(problems, "contamination")
    return read


def hash_runs(words: Sequence[Sequence[str]], size: int) -> tuple[Array, Array, Array]:
    """All runs of ``size`` words of each text; of a shorter text, all its words. A text of no words has no run.

    Returns:
        Hash of each run, the text it stands in, and the word of the text at which it begins.
    """
    lengths = np.array([len(found) for found in words], dtype=np.int64)
    known: dict[str, np.uint64] = {}
    codes = np.array([_code(word, known) for found in words for word in found], dtype=np.uint64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    hashes: list[Array] = []
    owners: list[Array] = []
    places: list[Array] = []
    for width in np.unique(np.minimum(lengths, size)).tolist():
        if not width:
            continue
        of_width = np.minimum(lengths, size) == width
        count = np.where(of_width, lengths - width + 1, 0)
        owner = np.repeat(np.arange(len(words)), count)
        begin = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        place = begin + starts[owner]
        run = np.full(len(owner), width, dtype=np.uint64)
        with np.errstate(over="ignore"):
            for step in range(width):
                run = (run ^ codes[place + step]) * _PRIME
                run ^= run >> np.uint64(29)
        hashes.append(run)
        owners.append(owner)
        places.append(begin)
    if not hashes:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(hashes), np.concatenate(owners), np.concatenate(places)


def _is_boilerplate(items: Items, owners: Array, places: Array, size: int) -> Array:
    # Every text has at least the words of the shortest run, so these come text by text, word by word.
    short, of_text, _ = hash_runs(items.words, MIN_NGRAM_WORDS)
    of_item = np.array(items.numbers, dtype=np.uint64)[of_text]
    values, spread = np.unique(np.unique(np.stack([short, of_item], axis=1), axis=0)[:, 0], return_counts=True)
    common = np.concatenate([[0], np.cumsum(np.isin(short, values[spread > COMMON]))])
    count = np.bincount(of_text, minlength=len(items.texts))
    first = (np.cumsum(count) - count)[owners] + places
    last = np.minimum(first + size - MIN_NGRAM_WORDS + 1, np.cumsum(count)[owners])
    found: Array = common[last] > common[first]
    return found


def _code(word: str, known: dict[str, np.uint64]) -> np.uint64:
    code = known.get(word)
    if code is None:
        code = np.uint64(int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()))
        known[word] = code
    return code


def find_runs(table: pa.Table, items: Items, size: int) -> dict[int, Hit]:
    """Rows that hold a run of words of an item, each with the item it shares most runs with.

    Args:
        table: The rows.
        items: Of one benchmark.
        size: Words in a row.
    """
    if not items.texts:
        return {}
    runs, owners, places = hash_runs(items.words, size)
    keep = ~_is_boilerplate(items, owners, places, size)
    runs, owners = runs[keep], owners[keep]
    order = np.argsort(runs, kind="stable")
    runs, owners = runs[order], owners[order]
    of_text = np.bincount(owners, minlength=len(items.texts))
    widths = sorted({min(len(words), size) for words in items.words})
    found: dict[int, Hit] = {}
    for start in range(0, table.num_rows, CHUNK):
        part = table.slice(start, CHUNK)
        texts = [
            find_words("\n".join(turn["content"] for turn in turns if turn["role"] != "system"))
            for turns in part["messages"].to_pylist()
        ]
        shared: Counter[tuple[int, int]] = Counter()
        for width in widths:
            hashes, rows, _ = hash_runs(texts, width)
            left, right = np.searchsorted(runs, hashes), np.searchsorted(runs, hashes, side="right")
            for place in np.flatnonzero(right > left).tolist():
                for text in owners[left[place] : right[place]].tolist():
                    shared[int(rows[place]), text] += 1
        for (row, text), count in sorted(shared.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0][1])):
            hit = Hit(items.title, items.numbers[text], "words", items.texts[text], min(count / of_text[text], 1.0))
            found.setdefault(start + row, hit)
    return found


def find_near_items(table: pa.Table, items: Items, threshold: float) -> dict[int, Hit]:
    """Rows of which a prompt or answer is a near duplicate of a text of an item, each with the nearest.

    Args:
        table: The rows.
        items: Of one benchmark.
        threshold: Least Jaccard similarity of character n-grams.
    """
    found: dict[int, Hit] = {}
    messages = column_messages(table)
    texts = [*join_turns(messages, ["user"]), *join_turns(messages, ["assistant"])]
    pairs, similarity = find_between(items.texts, texts, threshold)
    for place in np.lexsort((pairs[:, 0], -similarity)).tolist():
        text, row = int(pairs[place, 0]), int(pairs[place, 1]) % table.num_rows
        hit = Hit(items.title, items.numbers[text], "near", items.texts[text], float(similarity[place]))
        found.setdefault(row, hit)
    return found


def find_same_prompts(table: pa.Table, items: Items) -> dict[int, Hit]:
    """Rows whose prompt is a short text of an item."""
    found: dict[int, Hit] = {}
    for row, prompt in enumerate(join_turns(column_messages(table), ["user"])):
        number = items.whole.get(fold_text(prompt))
        if number is not None:
            found[row] = Hit(items.title, number, "same", prompt, 1.0)
    return found
