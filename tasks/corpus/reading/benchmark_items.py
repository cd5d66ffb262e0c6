"""Items of benchmarks: the texts that no row may hold."""

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
from tasks.corpus.text.words import find_words, fold_text

SHORTEST = 8

# A text of fewer words says nothing of its own: yes, no, a name.
TELLING = 3


@dataclass(frozen=True)
class Items:
    """Texts of a benchmark's items.

    Attributes:
        title: The benchmark.
        texts: All texts long enough to be told apart.
        words: Theirs.
        numbers: The item of each text, counted from 1.
        rows: How many items there are.
        whole: Folded text to item, for texts of 3 to 7 words.
        short: Texts left out for having fewer words still.
    """

    title: str
    texts: list[str]
    words: list[list[str]]
    numbers: list[int]
    rows: int
    whole: dict[str, int]
    short: int


def read_items(benchmark: Benchmark, root: Path) -> Items:
    """The texts of a benchmark.

    Raises:
        PipelineError: It is missing, empty, another than pinned, lacks a column, or all its texts are too short.
    """
    texts: list[str] = []
    kept: list[list[str]] = []
    numbers, rows, short = [], 0, 0
    whole: dict[str, int] = {}
    missing = set(benchmark.columns)
    for number, item in _read_rows(benchmark, root):
        rows += 1
        missing -= item.keys()
        wanted = {name: item.get(name) for name in benchmark.columns} if benchmark.columns else item
        for text in dict.fromkeys(list_texts(wanted)):
            words = find_words(text)
            if len(words) >= SHORTEST:
                texts.append(text)
                kept.append(words)
                numbers.append(number)
            elif len(words) >= TELLING:
                whole.setdefault(fold_text(text), number)
            else:
                short += 1
    where = f'benchmark "{benchmark.title}": {benchmark.path}'
    if not rows:
        raise PipelineError(f"{where} does not exist or holds no item; correct path in data_preparation.contamination")
    if missing:
        raise PipelineError(f"{where} has no column {', '.join(sorted(missing))}; correct columns")
    if not texts and not whole:
        raise PipelineError(f"{where} holds no text of {TELLING} words, so nothing of it can be found; take it out")
    return Items(benchmark.title, texts, kept, numbers, rows, whole, short)


def _read_rows(benchmark: Benchmark, root: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    name = benchmark.path.lower()
    kind = Parquet if ".parquet" in name else Csv if re.search(r"\.[ct]sv", name) else Jsonl
    records = kind(path=benchmark.path, title=benchmark.title, sha256=benchmark.sha256).read(root)
    number = 0
    for part in records.parts:
        for item in part.items:
            number += 1
            yield number, item


def list_texts(value: Any) -> list[str]:
    """All texts in a value, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for below in value.values() for text in list_texts(below)]
    if isinstance(value, list | tuple):
        return [text for below in value for text in list_texts(below)]
    return []
