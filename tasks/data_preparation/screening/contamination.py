"""Benchmark contamination: rows that contain items of benchmarks, on which a model must not be trained.

A row is contaminated by an item when

* it covers at least half of the words of one of the item's texts, and 13 words or all of them, by shared word 8-grams
  (`tasks.data_preparation.screening.item_coverage`). A text of 8 to 12 words must also be at least half of its item or
  of a turn of the row: what is less is a phrase that people quote; or
* a prompt, or an answer, is a near duplicate of a text of the item (MinHash, then exact Jaccard similarity of
  character n-grams), for texts of at least 8 words; or
* a prompt, or a plain text, equals a text of the item up to case, spaces and sentence punctuation, for texts of 3 to 7
  words.

The texts of an item are the values of its columns, each compared separately. What is in more than 10 items of a
benchmark, or 0.5% of a large one, such as an instruction before every question, is boilerplate and does not count.

Of 150 items each of GSM8K, BIG-Bench Hard and IFEval, planted in rows, these are found: verbatim, or in capitals
without punctuation, 100%; amid 47 other words 98%; cut to 80% of their words 95%; with 5% of their words exchanged 96%,
with 10% exchanged 76%. A question of less than 13 words without its passage, as in SQuAD, is found when it is at least
half of a turn. In 58,000 rows of 27 other public sets none is found; in 32,000 longer ones of nine of them five, which
are in both sets: problems of GSM8K in prompts with examples, a sentence of Winogender, passages of Wikipedia.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.errors import PipelineError, raise_all
from tasks.corpus.reading.benchmark_items import Items, ShortItems, read_items
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.rows.rows import Listing, Rows, column_messages, find_plain, finish_step, name_places, row_of_turn
from tasks.corpus.rows.texts import CONVERSATION_CHARACTERS, make_visible, show_conversation
from tasks.corpus.similarity.lists import find_between, sign_texts
from tasks.corpus.text.folds import fold_prompt, fold_prompts
from tasks.corpus.text.words import find_words
from tasks.data_preparation.screening.item_coverage import (
    MIN_COVERED_WORDS,
    HashedWords,
    ItemIndex,
    find_contained,
    hash_texts,
    index_items,
)
from tasks.data_preparation.screening.params import Contamination

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

# A short text counts if it is at least this share of its item, or of a turn of the row.
MIN_SHARE = 0.5
# Rows that are compared at once by their signatures, and characters that are cut into words at once.
BATCH_ROWS, BATCH_CHARACTERS = 20_000, 2_000_000


@dataclass(frozen=True)
class Contaminant:
    """The benchmark item that contaminates a row.

    Attributes:
        title: Title of the benchmark.
        item: Number of the item.
        match: ``words`` (covered words), ``near`` (near duplicate) or ``same`` (identical prompt).
        text: Text of the item.
        similarity: Share of the text's words that the row covers, or Jaccard similarity.
    """

    title: str
    item: int
    match: Literal["words", "near", "same"]
    text: str
    similarity: float


def remove_contamination(rows: Rows, settings: Contamination, root: Path, suites: Sequence[Benchmark] = ()) -> Rows:
    """Drop the rows that contain items of benchmarks, or only report them.

    Args:
        rows: With ``id``.
        settings: Benchmarks and thresholds.
        root: Folder that relative paths start from.
        suites: Benchmarks that evaluation asks; one whose texts are all too short to be found is told and passed over.

    Returns:
        The rows that remain; all of them when there is no benchmark.

    Raises:
        PipelineError: A benchmark is missing or empty, differs from its pinned hash, or lacks a column.
    """
    if not settings.benchmarks and not suites:
        return rows
    contaminants: dict[int, Contaminant] = {}
    counts: list[tuple[str | int | float, ...]] = []
    benchmarks = _read_benchmarks(settings.benchmarks, suites, root)
    if not benchmarks:
        return rows
    index = index_items(benchmarks, settings.words, settings.share)
    covered = find_covered_items(rows.table, benchmarks, index)
    near_duplicates = find_near_duplicate_items(rows.table, benchmarks, index, settings.near)
    identical_prompts = find_identical_prompts(rows.table, benchmarks)
    for items, by_words, by_near_duplicate, by_identical_prompt in zip(
        benchmarks, covered, near_duplicates, identical_prompts, strict=True
    ):
        matches = {**by_identical_prompt, **by_near_duplicate, **by_words}
        for row, contaminant in matches.items():
            contaminants.setdefault(row, contaminant)
        matched_items = {
            contaminant.item
            for kind in (by_words, by_near_duplicate, by_identical_prompt)
            for contaminant in kind.values()
        }
        kinds = (len(by_words), len(by_near_duplicate), len(by_identical_prompt))
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
            "words",
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


def _read_benchmarks(benchmarks: Sequence[Benchmark], suites: Sequence[Benchmark], root: Path) -> list[Items]:
    items, problems = [], []
    for benchmark in (*benchmarks, *suites):
        try:
            items.append(read_items(benchmark, root))
        except ShortItems as error:
            if benchmark in benchmarks:
                problems.append(str(error))
            else:
                logger.warning("%s", error)
        except PipelineError as error:
            problems.append(str(error))
    raise_all(problems, "contamination")
    return items


def find_covered_items(table: pa.Table, benchmarks: Sequence[Items], index: ItemIndex) -> list[dict[int, Contaminant]]:
    """Per benchmark the rows that cover the words of its items, each with the item of which it covers most.

    Args:
        table: The rows.
        benchmarks: Their items.
        index: Of the items.
    """
    texts = _list_texts(benchmarks)
    is_short = index.counted < MIN_COVERED_WORDS
    is_minor = is_short & (index.counted < MIN_SHARE * _count_words_of_items(texts, index))
    found: list[dict[int, Contaminant]] = [{} for _ in benchmarks]
    for rows, turns in _cut_turns(table):
        first_turns = np.flatnonzero(np.diff(rows, prepend=-1))
        ends = [*first_turns[1:].tolist(), len(turns)]
        hashed = hash_texts(turns)
        contained = find_contained(HashedWords(hashed.hashes, hashed.offsets[[0, *ends]]), index)
        for place, text, share in zip(
            contained.rows.tolist(), contained.texts.tolist(), contained.shares.tolist(), strict=True
        ):
            number, item, words, content = texts[text]
            if is_minor[text] and not _is_half_of_a_turn(words, turns[first_turns[place] : ends[place]]):
                continue
            contaminant = Contaminant(benchmarks[number].title, item, "words", content, share)
            found[number].setdefault(int(rows[first_turns[place]]), contaminant)
    return found


def _list_texts(benchmarks: Sequence[Items]) -> list[tuple[int, int, list[str], str]]:
    """Of each text of the benchmarks, as they are indexed, the benchmark, the item, the words and the text."""
    return [
        (number, *text)
        for number, items in enumerate(benchmarks)
        for text in zip(items.numbers, items.words, items.texts, strict=True)
    ]


def _count_words_of_items(texts: Sequence[tuple[int, int, list[str], str]], index: ItemIndex) -> Array:
    counts: Counter[tuple[int, int]] = Counter()
    for (number, item, _, _), counted in zip(texts, index.counted.tolist(), strict=True):
        counts[number, item] += counted
    return np.array([counts[number, item] for number, item, _, _ in texts], dtype=np.int64)


def _cut_turns(table: pa.Table) -> Iterator[tuple[Array, pl.Series]]:
    """The turns that are no system turns, and the row of each, in batches of whole rows, which bounds the memory."""
    for first_row in range(0, table.num_rows, BATCH_ROWS):
        messages = column_messages(table.slice(first_row, BATCH_ROWS))
        turns = messages.flatten()
        is_compared = np.asarray(pc.not_equal(turns.field("role"), "system"))
        rows = row_of_turn(messages)[is_compared] + first_row
        contents = turns.field("content").filter(pa.array(is_compared))
        characters = np.cumsum(pc.fill_null(pc.utf8_length(contents), 0))
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        batch = (characters[starts] // BATCH_CHARACTERS) if len(starts) else starts
        begins = starts[np.flatnonzero(np.diff(batch, prepend=-1))]
        for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
            yield rows[begin:end], pl.Series(contents.slice(begin, end - begin), dtype=pl.String)


def _is_half_of_a_turn(words: Sequence[str], turns: Iterable[str]) -> bool:
    of_turns = map(find_words, turns)
    return any(MIN_SHARE * len(turn) <= len(words) and set(words) <= set(turn) for turn in of_turns)


def find_near_duplicate_items(
    table: pa.Table, benchmarks: Sequence[Items], index: ItemIndex, threshold: float | None
) -> list[dict[int, Contaminant]]:
    """Per benchmark the rows of which a prompt or an answer is a near duplicate of a text of an item.

    Each row comes with its most similar item. A text that is in too many items does not count. Of one with boilerplate,
    which alone can make two texts near duplicates, the row must contain the share ``threshold`` of the other words as
    well, unless it is the same text.

    Args:
        table: The rows.
        benchmarks: Their items.
        index: Of the items.
        threshold: Smallest Jaccard similarity of character n-grams; None: there are none.
    """
    found: list[dict[int, Contaminant]] = [{} for _ in benchmarks]
    if threshold is None:
        return found
    texts = _list_texts(benchmarks)
    is_boilerplate = [
        count > items.boilerplate_limit
        for items in benchmarks
        for count in map(Counter(items.texts).__getitem__, items.texts)
    ]
    signed = sign_texts([content for *_, content in texts])
    for first_row in range(0, table.num_rows, BATCH_ROWS):
        messages = column_messages(table.slice(first_row, BATCH_ROWS))
        turns = messages.flatten()
        is_compared = np.asarray(pc.is_in(turns.field("role"), pa.array(["user", "assistant"])))
        rows = row_of_turn(messages)[is_compared] + first_row
        compared = sign_texts(turns.field("content").filter(pa.array(is_compared)).to_pylist())
        pairs, similarity = find_between(signed, compared, threshold)
        for pair in np.lexsort((pairs[:, 0], -similarity)).tolist():
            text, turn = pairs[pair].tolist()
            number, item, words, content = texts[text]
            own = index.list_own_words(text, words)
            if is_boilerplate[text] or (
                len(own) < len(words)
                and not _contains_share(own, compared.texts[turn], threshold)
                and fold_prompt(content) != fold_prompt(compared.texts[turn])
            ):
                continue
            contaminant = Contaminant(benchmarks[number].title, item, "near", content, float(similarity[pair]))
            found[number].setdefault(int(rows[turn]), contaminant)
    return found


def _contains_share(words: Sequence[str], text: str, share: float) -> bool:
    contained = set(find_words(text))
    return bool(words) and sum(word in contained for word in words) >= share * len(words)


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
