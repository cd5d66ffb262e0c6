"""Existing rows: the examples for the teacher, and the prompts that no synthetic row may duplicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import content_id
from tasks.contracts.tables import read_examples
from tasks.corpus.reading.benchmark_items import read_items
from tasks.corpus.reading.ingest import read_source
from tasks.corpus.text.draws import draw
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.drafts import Group, Known, Seed
from tasks.synthesis.params import Synthesis

SPLITS = ("train", "validation", "test")
NAMES = {"train": "a training row", "validation": "a row of validation", "test": "a row of test"}
# More seeds would hardly be shown to the teacher.
MAXIMUM_SEEDS = 2000


def read_seeds(settings: Synthesis, splits: Mapping[str, Path], root: Path) -> list[Seed]:
    """The rows of the seeds' source with one request and one answer, in the order of their ids.

    Held-out rows and their near-duplicates are excluded, so that no call contains one.

    Args:
        settings: Source and seed of the choice.
        splits: Name of each split to its file, where there is one.
        root: Folder that relative paths are relative to.

    Raises:
        PipelineError: The source cannot be read, or none of its rows can be an example.
    """
    if settings.seeds is None:
        return []
    if settings.seeds == "train":
        location = str(splits["train"])
        table = read_examples(splits["train"])
    else:
        source = settings.seeds.model_copy(update={"title": settings.seeds.title or "seeds"})
        table, _, origin = read_source(source, root)
        location = origin.place
    rows = zip(table["messages"].to_pylist(), table["label"].to_pylist(), strict=True)
    seeds = {seed.id: seed for turns, label in rows if (seed := read_seed(turns, label)) is not None}
    held_out = [group for group in read_splits(splits) if group.held_out]
    chosen = sorted(seeds.values(), key=lambda seed: (draw("seed", settings.seed, seed.id), seed.id))[:MAXIMUM_SEEDS]
    prompts = [seed.prompt for seed in chosen]
    threshold = next((check.held_out for check in settings.checks if isinstance(check, DuplicateCheck)), 1.0)
    leaking = set[int]().union(*(group.find_similar(prompts, threshold) for group in held_out))
    kept = [seed for index, seed in enumerate(chosen) if index not in leaking]
    if not kept:
        raise PipelineError(
            f"seeds: of {table.num_rows:,} rows of {location} none has one request with one answer and differs from "
            "the held-out rows; give other seeds, or seeds: null with a task"
        )
    return sorted(kept, key=lambda seed: seed.id)


def read_seed(turns: Sequence[Mapping[str, Any]], label: str | None) -> Seed | None:
    """A conversation as an example, if it has one request and one answer besides a system turn."""
    dialogue = [turn for turn in turns if turn["role"] != "system"]
    if [turn["role"] for turn in dialogue] != ["user", "assistant"]:
        return None
    prompt, answer = dialogue[0]["content"], dialogue[1]["content"]
    if not prompt.strip() or not answer.strip():
        return None
    return Seed(content_id([dict(turn) for turn in turns]), prompt, answer, label)


def read_splits(splits: Mapping[str, Path]) -> list[Group]:
    """The prompts of each existing split."""
    groups = []
    for name in SPLITS:
        path = splits.get(name)
        if path is None or not path.is_file():
            continue
        conversations = read_examples(path)["messages"].to_pylist()
        texts = [turn["content"] for turns in conversations for turn in turns if turn["role"] == "user"]
        groups.append(Group(NAMES[name], list(dict.fromkeys(texts)), held_out=name != "train"))
    return groups


def read_known(settings: Synthesis, seeds: Sequence[Seed], splits: Mapping[str, Path], root: Path) -> Known:
    """Everything that a synthetic row is compared with.

    Raises:
        PipelineError: A benchmark cannot be read, or labels are requested from seeds that have none.
    """
    groups = read_splits(splits)
    for check in settings.checks:
        if isinstance(check, DuplicateCheck):
            for benchmark in check.benchmarks:
                items = read_items(benchmark, root)
                groups.append(Group(f"an item of {benchmark.title}", [*items.texts, *items.whole], held_out=True))
    # Held-out rows first, because a leak is the more important reason.
    groups.sort(key=lambda group: not group.held_out)
    existing = {text for group in groups for text in group.texts}
    groups.append(Group("a seed", [seed.prompt for seed in seeds if seed.prompt not in existing]))
    labels = settings.labels
    if labels == "seeds":
        labels = tuple(sorted({seed.label for seed in seeds if seed.label is not None}))
        if not labels:
            raise PipelineError("synthesis: labels: seeds, but no seed has a label; list the labels, or leave them out")
    return Known(tuple(labels), tuple(groups))


def choose_examples(seeds: Sequence[Seed], count: int, seed: int, purpose: str) -> list[Seed]:
    """A sample of the seeds, different for every purpose."""
    return sorted(seeds, key=lambda row: (draw(purpose, seed, row.id), row.id))[:count]
