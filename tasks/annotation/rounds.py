"""The round a text takes: chosen or exported, labelled by people in Label Studio, imported as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks.annotation.choose import choose_next
from tasks.annotation.label_studio import Annotated, Task, make_config, make_tasks, read_export
from tasks.annotation.params import Annotation
from tasks.annotation.resolve import TIE, Resolved, check_labels, make_rows, merge_rows, read_rows, resolve_labels
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_bytes
from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import read_table
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import REASON, STEP, find_suspects
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.rows.rows import read_prompts

LABELS = "labels.jsonl"
NEXT, AGAIN = "next.json", "again.json"
ROWS, SUSPECTS = "rows.json", "suspects.json"
CONFIG = "label_config.xml"


@dataclass(frozen=True)
class Prepared:
    """Prepared rows, each once.

    Attributes:
        ids: Content hashes.
        texts: Prompts; of plain text all of it.
        labels: Labels, None where a row has none.
        sources: Source of each.
        splits: Split of each.
    """

    ids: list[str]
    texts: list[str]
    labels: list[str | None]
    sources: list[str]
    splits: list[str]


@dataclass(frozen=True)
class WrittenFile:
    """What was written.

    Attributes:
        path: The tasks or rows.
        rows: How many.
        notes: What else is worth knowing.
    """

    path: Path
    rows: int
    notes: list[str]


def read_prepared(folder: Path) -> Prepared:
    """The rows of the three splits, of each what is labelled; none where nothing is prepared yet."""
    found = Prepared([], [], [], [], [])
    seen: set[str] = set()
    for split in ("train", "validation", "test"):
        path = folder / f"{split}.parquet"
        if not path.is_file():
            continue
        table = read_table(path, EXAMPLES)
        columns = (
            table["id"].to_pylist(),
            read_prompts(table),
            table["label"].to_pylist(),
            table["source"].to_pylist(),
        )
        for name, text, label, source in zip(*columns, strict=True):
            if name not in seen:
                seen.add(name)
                found.ids.append(name)
                found.texts.append(text)
                found.labels.append(label)
                found.sources.append(source)
                found.splits.append(split)
    return found


def list_labels(settings: Annotation, prepared: Prepared, imported: Sequence[dict[str, Any]]) -> list[str]:
    """The labels to choose from.

    Raises:
        PipelineError: There are fewer than two.
    """
    labels = list(settings.labels) or sorted(
        {label for label in prepared.labels if label is not None} | {row["label"] for row in imported}
    )
    if len(labels) < 2:
        raise PipelineError(f"annotate: {len(labels)} labels to choose from; name them in annotation.labels")
    return labels


def write_next(settings: Annotation, items: int, prepared_in: Path, folder: Path, root: Path) -> WrittenFile:
    """Choose the texts to label next and write them as tasks.

    Args:
        settings: Pool, labels and embedder.
        items: How many.
        prepared_in: Folder of the prepared splits.
        folder: Where tasks and configuration go, and earlier imports are.
        root: What the pool's path is relative to.

    Raises:
        PipelineError: There is no pool, it cannot be read, or nothing in it is left to label.
    """
    if settings.pool is None:
        raise PipelineError(
            "annotate: no pool of texts; name one in annotation, such as "
            "pool: {name: text, path: data/raw/pool.txt, rows: lines}"
        )
    prepared, imported = read_prepared(prepared_in), read_rows(folder / LABELS)
    labels = list_labels(settings, prepared, imported)
    pool = read_prompts(read_sources([settings.pool], "quarantine", root).table)
    train = [
        (text, label)
        for text, label, split in zip(prepared.texts, prepared.labels, prepared.splits, strict=True)
        if split == "train" and label is not None
    ]
    known = [*train, *((row["text"], row["label"]) for row in imported)]
    held = [text for text, split in zip(prepared.texts, prepared.splits, strict=True) if split != "train"]
    chosen = choose_next(
        pool,
        [text for text, _ in known],
        [label for _, label in known],
        held,
        items,
        settings.embedder,
        settings.alike,
        settings.seed,
    )
    cold = all(guess is None for guess in chosen.guesses)
    tasks = [
        Task(pool[place], {} if cold else {"unsure": unsure}, guess if guess in labels else None, 1 - unsure)
        for place, guess, unsure in zip(chosen.places, chosen.guesses, chosen.unsure, strict=True)
    ]
    write_bytes(folder / NEXT, make_tasks(tasks))
    write_bytes(folder / CONFIG, make_config(labels).encode())
    notes = [f"left out: {count:,} {reason}" for reason, count in chosen.left_out.items()]
    if len(tasks) < items:
        notes.append(f"the pool has no more than {len(tasks):,} texts left")
    notes.append("no labels to learn from: spread over the pool" if cold else "the least sure first, spread by content")
    return WrittenFile(folder / NEXT, len(tasks), notes)


@dataclass(frozen=True)
class Imported:
    """An import.

    Attributes:
        tasks: As they came back.
        resolved: One label per task.
        rows: All rows that are now in ``labels.jsonl``.
        new: How many texts of this import have a label.
        replaced: How many of them had another label before.
    """

    tasks: list[Annotated]
    resolved: Resolved
    rows: list[dict[str, Any]]
    new: int
    replaced: int


def import_labels(settings: Annotation, export: Path, folder: Path) -> Imported:
    """Read what people labelled and write the rows; texts on which they are tied become tasks again.

    Args:
        settings: Labels allowed, and how several become one.
        export: The file that Label Studio exported.
        folder: Where ``labels.jsonl`` and ``again.json`` go.

    Raises:
        PipelineError: The export cannot be read, has labels that are not allowed, or not one text has a label.
    """
    tasks = read_export(export)
    check_labels(tasks, settings.labels)
    resolved = resolve_labels(tasks, settings.resolve)
    new = make_rows(tasks, resolved)
    if not new:
        raise PipelineError(f"{export}: none of its {len(tasks):,} tasks has a label; label some, and export it again")
    before = read_rows(folder / LABELS)
    earlier = {row["text"]: row["label"] for row in before}
    rows = merge_rows(before, new)
    replaced = sum(earlier.get(row["text"], row["label"]) != row["label"] for row in new)
    write_bytes(folder / LABELS, b"".join(orjson.dumps(row) + b"\n" for row in rows))
    again = [Task(task.text) for task, why in zip(tasks, resolved.why, strict=True) if why == TIE]
    if again:
        write_bytes(folder / AGAIN, make_tasks(again))
    else:
        (folder / AGAIN).unlink(missing_ok=True)
    return Imported(tasks, resolved, rows, len(new), replaced)


def export_rows(settings: Annotation, noise: Noise, prepared_in: Path, folder: Path, suspects: bool) -> WrittenFile:
    """Write prepared rows as tasks, each with its label as the suggestion; or only those whose label looks wrong.

    Suspects are the rows that the step for noisy labels set aside; where it set none aside, they are looked for among
    the prepared rows. Theirs is the label that fits better as the suggestion.

    Args:
        settings: Labels to choose from.
        noise: How suspects are found.
        prepared_in: Folder of the prepared splits.
        folder: Where tasks and configuration go.
        suspects: Whether only suspects are wanted.

    Raises:
        PipelineError: Nothing is prepared, or there is no suspect.
    """
    prepared = read_prepared(prepared_in)
    if not prepared.ids:
        raise PipelineError(f"{prepared_in}: no prepared rows; run `heptune run data_preparation` first")
    labels = list_labels(settings, prepared, read_rows(folder / LABELS))
    if suspects:
        tasks = _read_dropped(prepared_in / "quarantine.parquet") or list(_suspect(prepared, noise))
        if not tasks:
            raise PipelineError("annotate: no label looks wrong; there is nothing to export")
    else:
        columns = (prepared.ids, prepared.texts, prepared.labels, prepared.sources, prepared.splits)
        tasks = [
            Task(text, {"row": name, "source": source, "split": split}, label, 1.0)
            for name, text, label, source, split in zip(*columns, strict=True)
        ]
    path = folder / (SUSPECTS if suspects else ROWS)
    write_bytes(path, make_tasks(tasks))
    write_bytes(folder / CONFIG, make_config(labels).encode())
    return WrittenFile(path, len(tasks), [])


def _read_dropped(path: Path) -> list[Task]:
    if not path.is_file():
        return []
    rows = read_table(path, QUARANTINE).filter(pa.compute.field("step") == STEP).to_pylist()
    contents = [orjson.loads(row["content"]) for row in rows]
    table = pa.table(
        {"messages": pa.array([content["messages"] for content in contents], EXAMPLES.field("messages").type)}
    )
    texts = read_prompts(table) if rows else []
    return [
        Task(text, {"given": content["label"], "source": row["source"]}, row["reason"].removeprefix(REASON), 0.5)
        for row, content, text in zip(rows, contents, texts, strict=True)
    ]


def _suspect(prepared: Prepared, noise: Noise) -> Iterable[Task]:
    found = find_suspects(prepared.texts, prepared.labels, noise)
    for place, suggestion, sure in zip(found.places, found.suggested, found.other, strict=True):
        data = {
            "row": prepared.ids[place],
            "given": str(prepared.labels[place]),
            "source": prepared.sources[place],
            "split": prepared.splits[place],
        }
        yield Task(prepared.texts[place], data, suggestion, sure)
