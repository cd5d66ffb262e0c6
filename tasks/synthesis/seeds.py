"""Rows that exist: the examples for the teacher, and what no written row may come near to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, content_id
from tasks.contracts.tables import read_table
from tasks.corpus.reading.benchmark_items import read_items
from tasks.corpus.reading.ingest import read_source
from tasks.corpus.text.draws import draw
from tasks.synthesis.checks.duplicates import DuplicatesCheck
from tasks.synthesis.drafts import Group, Known, Seed
from tasks.synthesis.params import Synthesis

SPLITS = ("train", "validation", "test")
NAMES = {"train": "a training row", "validation": "a row of validation", "test": "a row of test"}
# More examples add nothing that a teacher would see.
MOST = 2000


def read_seeds(settings: Synthesis, splits: Mapping[str, Path], root: Path) -> list[Seed]:
    """The rows of the seeds' source that are one request and one answer, in the order of their ids.

    Those that are, or are like, a held-out row are left out: no call carries one.

    Args:
        settings: Source and choice.
        splits: Name of each split to its file, where there is one.
        root: What relative paths are relative to.

    Raises:
        PipelineError: The source cannot be read, or no row of it can be an example.
    """
    if settings.seeds is None:
        return []
    if settings.seeds == "train":
        place = str(splits["train"])
        table = read_table(splits["train"], EXAMPLES)
    else:
        source = settings.seeds.model_copy(update={"title": settings.seeds.title or "seeds"})
        table, _, origin = read_source(source, root)
        place = origin.place
    rows = zip(table["messages"].to_pylist(), table["label"].to_pylist(), strict=True)
    seeds = {seed.id: seed for turns, label in rows if (seed := read_seed(turns, label)) is not None}
    held = [group for group in read_splits(splits) if group.held_out]
    chosen = sorted(seeds.values(), key=lambda seed: (draw("seed", settings.seed, seed.id), seed.id))[:MOST]
    prompts = [seed.prompt for seed in chosen]
    threshold = next((check.held_out for check in settings.checks if isinstance(check, DuplicatesCheck)), 1.0)
    leaking = set[int]().union(*(group.find_like(prompts, threshold) for group in held))
    kept = [seed for place, seed in enumerate(chosen) if place not in leaking]
    if not kept:
        raise PipelineError(
            f"seeds: of {table.num_rows:,} rows of {place} none is one request with one answer and unlike the held-out "
            "rows; give other seeds, or seeds: null with a task"
        )
    return sorted(kept, key=lambda seed: seed.id)


def read_seed(turns: Sequence[Mapping[str, Any]], label: str | None) -> Seed | None:
    """A conversation as an example, if it is a request and an answer, whatever system turn stands before."""
    said = [turn for turn in turns if turn["role"] != "system"]
    if [turn["role"] for turn in said] != ["user", "assistant"]:
        return None
    prompt, answer = said[0]["content"], said[1]["content"]
    if not prompt.strip() or not answer.strip():
        return None
    return Seed(content_id([dict(turn) for turn in turns]), prompt, answer, label)


def read_splits(splits: Mapping[str, Path]) -> list[Group]:
    """The prompts of each split that is there."""
    groups = []
    for name in SPLITS:
        path = splits.get(name)
        if path is None or not path.is_file():
            continue
        conversations = read_table(path, EXAMPLES)["messages"].to_pylist()
        texts = [turn["content"] for turns in conversations for turn in turns if turn["role"] == "user"]
        groups.append(Group(NAMES[name], list(dict.fromkeys(texts)), held_out=name != "train"))
    return groups


def read_known(settings: Synthesis, seeds: Sequence[Seed], splits: Mapping[str, Path], root: Path) -> Known:
    """Everything that a written row is held against.

    Raises:
        PipelineError: A benchmark cannot be read, or labels are wanted of seeds that have none.
    """
    groups = read_splits(splits)
    for check in settings.checks:
        if isinstance(check, DuplicatesCheck):
            for benchmark in check.benchmarks:
                items = read_items(benchmark, root)
                groups.append(Group(f"an item of {benchmark.title}", [*items.texts, *items.whole], held_out=True))
    # The most telling reason first: held-out rows.
    groups.sort(key=lambda group: not group.held_out)
    there = {text for group in groups for text in group.texts}
    groups.append(Group("a seed", [seed.prompt for seed in seeds if seed.prompt not in there]))
    labels = settings.labels
    if labels == "seeds":
        labels = tuple(sorted({seed.label for seed in seeds if seed.label is not None}))
        if not labels:
            raise PipelineError("synthesis: labels: seeds, but no seed has a label; list the labels, or leave them out")
    return Known(tuple(labels), tuple(groups))


def choose_examples(seeds: Sequence[Seed], count: int, seed: int, purpose: str) -> list[Seed]:
    """Some seeds, other ones for every purpose."""
    return sorted(seeds, key=lambda found: (draw(purpose, seed, found.id), found.id))[:count]
