"""Items of benchmarks: the texts that must not occur in the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.text import Text
from tasks.corpus.text.folds import fold_prompt
from tasks.corpus.text.words import find_words

MIN_NGRAM_WORDS = 8

# Shorter texts are not specific to a benchmark: yes, no, a name.
MIN_WORDS = 3

# What is in more items than this, or than this share of them, is boilerplate of the benchmark, such as an instruction;
# in a small one, what is in more than half of them. A passage has fewer questions than a large benchmark's instruction.
BOILERPLATE_ITEMS, BOILERPLATE_SHARE = 10, 0.005


class ShortItems(PipelineError):
    """No text of a benchmark is long enough, or specific enough, to be found in rows."""


@dataclass(frozen=True)
class Items:
    """Texts of a benchmark's items.

    Attributes:
        title: The benchmark.
        texts: All texts of 8 words or more.
        words: The words of each text.
        numbers: The item of each text, counted from 1.
        rows: Number of items.
        whole: Folded text to item, for texts of 3 to 7 words, which must match as a whole; boilerplate is left out.
        short: Number of shorter texts, which are ignored.
    """

    title: str
    texts: list[str]
    words: list[list[str]]
    numbers: list[int]
    rows: int
    whole: dict[str, int]
    short: int

    @property
    def boilerplate_limit(self) -> int:
        """What is in more items than this is boilerplate."""
        return limit_boilerplate(self.rows)


def limit_boilerplate(items: int) -> int:
    """Largest number of items, of so many in all, that what is no boilerplate is in."""
    return max(min(BOILERPLATE_ITEMS, max(2, items // 2)), int(BOILERPLATE_SHARE * items))


def read_items(benchmark: Benchmark, root: Path) -> Items:
    """The texts of a benchmark.

    Raises:
        PipelineError: It is missing, empty, differs from its pin, lacks a column, or all its texts are too short.
    """
    texts: list[str] = []
    words_per_text: list[list[str]] = []
    numbers, rows, short = [], 0, 0
    items_with: dict[str, list[int]] = {}
    missing = set(benchmark.columns)
    for number, item in _read_rows(benchmark, root):
        rows += 1
        missing -= item.keys()
        values = {name: item.get(name) for name in benchmark.columns} if benchmark.columns else item
        for text in dict.fromkeys(list_texts(values)):
            words = find_words(text)
            if len(words) >= MIN_NGRAM_WORDS:
                texts.append(text)
                words_per_text.append(words)
                numbers.append(number)
            elif len(words) >= MIN_WORDS:
                items_with.setdefault(fold_prompt(text), []).append(number)
            else:
                short += 1
    location = f'benchmark "{benchmark.title}": {benchmark.path}'
    if not rows:
        raise PipelineError(
            f"{location} does not exist or holds no item; correct path in data_preparation.contamination"
        )
    if missing:
        raise PipelineError(f"{location} has no column {', '.join(sorted(missing))}; correct columns")
    limit = limit_boilerplate(rows)
    whole = {text: found[0] for text, found in items_with.items() if len(set(found)) <= limit}
    if not texts and not whole:
        raise ShortItems(
            f"{location} holds no text of {MIN_WORDS} words that is in few of its items, so nothing of it can be "
            "found; take it out"
        )
    return Items(benchmark.title, texts, words_per_text, numbers, rows, whole, short)


def _read_rows(benchmark: Benchmark, root: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    name = benchmark.path.lower()
    source_class = Parquet if ".parquet" in name else Csv if re.search(r"\.[ct]sv", name) else Jsonl
    place = {"path": benchmark.path, "title": benchmark.title, "sha256": benchmark.sha256}
    is_text = re.search(r"\.(?:txt|md)(?:\.\w+)?$", name) is not None
    source = Text(**place, rows="lines") if is_text else source_class(**place)
    records = source.read(root)
    number = 0
    for part in records.parts:
        for item in part.items:
            number += 1
            yield number, item


def list_texts(value: Any) -> list[str]:
    """All texts in a value, at any depth."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for child in value.values() for text in list_texts(child)]
    if isinstance(value, list | tuple):
        return [text for child in value for text in list_texts(child)]
    return []
