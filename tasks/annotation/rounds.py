"""A round of annotation: texts are chosen or exported, labelled by people in Label Studio, and imported as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks.annotation.choose import choose_next
from tasks.annotation.label_studio import AnnotatedText, Task, make_config, make_tasks, read_export
from tasks.annotation.params import Annotation
from tasks.annotation.resolve import TIE, ResolvedLabels, check_labels, make_rows, merge_rows, read_rows, resolve_labels
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_bytes
from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import read_examples, read_table
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import REASON, STEP, find_suspects
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.rows.rows import read_prompts

LABELS = "labels.jsonl"
NEXT, AGAIN = "next.json", "again.json"
ROWS, SUSPECTS = "rows.json", "suspects.json"
CONFIG = "label_config.xml"


@dataclass(frozen=True)
class PreparedRows:
    """PreparedRows rows without duplicates.

    Attributes:
        ids: Content hashes.
        texts: Prompts, or the whole text of a plain text.
        labels: Labels, None for a row without one.
        sources: Source of each row.
        splits: Split of each row.
    """

    ids: list[str]
    texts: list[str]
    labels: list[str | None]
    sources: list[str]
    splits: list[str]


@dataclass(frozen=True)
class WrittenTasks:
    """A written file of tasks.

    Attributes:
        path: The file.
        rows: Number of tasks.
        notes: Remarks for the user.
    """

    path: Path
    rows: int
    notes: list[str]


def read_prepared(folder: Path) -> PreparedRows:
    """The rows of the three splits; none where no data is prepared yet."""
    rows = PreparedRows([], [], [], [], [])
    seen: set[str] = set()
    for split in ("train", "validation", "test"):
        path = folder / f"{split}.parquet"
        if not path.is_file():
            continue
        table = read_examples(path)
        columns = (
            table["id"].to_pylist(),
            read_prompts(table),
            table["label"].to_pylist(),
            table["source"].to_pylist(),
        )
        for name, text, label, source in zip(*columns, strict=True):
            if name not in seen:
                seen.add(name)
                rows.ids.append(name)
                rows.texts.append(text)
                rows.labels.append(label)
                rows.sources.append(source)
                rows.splits.append(split)
    return rows


def list_labels(settings: Annotation, prepared: PreparedRows, imported: Sequence[dict[str, Any]]) -> list[str]:
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


def write_next(settings: Annotation, items: int, prepared_in: Path, folder: Path, root: Path) -> WrittenTasks:
    """Choose the texts to label next and write them as tasks.

    Args:
        settings: Pool, labels and embedder.
        items: Number of texts.
        prepared_in: Folder of the prepared splits.
        folder: Folder of tasks, configuration and earlier imports.
        root: Folder that the pool's path is relative to.

    Raises:
        PipelineError: There is no pool, it cannot be read, or it has no text left to label.
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
    held_out = [text for text, split in zip(prepared.texts, prepared.splits, strict=True) if split != "train"]
    chosen = choose_next(
        pool,
        [text for text, _ in known],
        [label for _, label in known],
        held_out,
        items,
        settings.embedder,
        settings.alike,
        settings.seed,
    )
    cold = all(prediction is None for prediction in chosen.predictions)
    tasks = [
        Task(pool[index], {} if cold else {"unsure": uncertainty}, label if label in labels else None, 1 - uncertainty)
        for index, label, uncertainty in zip(chosen.indices, chosen.predictions, chosen.uncertainty, strict=True)
    ]
    _write(folder / NEXT, make_tasks(tasks))
    _write(folder / CONFIG, make_config(labels).encode())
    notes = [f"excluded: {count:,} {reason}" for reason, count in chosen.excluded.items()]
    if len(tasks) < items:
        notes.append(f"the pool has only {len(tasks):,} texts left")
    notes.append(
        "no labels to learn from: texts chosen for diversity" if cold else "the most uncertain texts first, diverse"
    )
    return WrittenTasks(folder / NEXT, len(tasks), notes)


@dataclass(frozen=True)
class ImportedLabels:
    """An import.

    Attributes:
        tasks: AnnotatedText texts.
        resolved: One label per task.
        rows: All rows now in ``labels.jsonl``.
        new: Number of texts of this import with a label.
        replaced: Number of them that had another label before.
    """

    tasks: list[AnnotatedText]
    resolved: ResolvedLabels
    rows: list[dict[str, Any]]
    new: int
    replaced: int


def import_labels(settings: Annotation, export: Path, folder: Path) -> ImportedLabels:
    """Read an export and write its labels as rows; ties are written as tasks again.

    Args:
        settings: Allowed labels, and how several labels become one.
        export: The file exported by Label Studio.
        folder: Folder of ``labels.jsonl`` and ``again.json``.

    Raises:
        PipelineError: The export cannot be read, has labels that are not allowed, or has no label at all.
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
    return ImportedLabels(tasks, resolved, rows, len(new), replaced)


def export_rows(settings: Annotation, noise: Noise, prepared_in: Path, folder: Path, suspects: bool) -> WrittenTasks:
    """Write prepared rows as tasks, each with its label as the suggestion; or only those whose label looks wrong.

    Suspects are the rows quarantined by the step for label noise; if there are none, they are detected among the
    prepared rows. Their suggestion is the label that fits better.

    Args:
        settings: Labels to choose from.
        noise: Settings of the detection.
        prepared_in: Folder of the prepared splits.
        folder: Folder for tasks and configuration.
        suspects: Whether only suspects are exported.

    Raises:
        PipelineError: There are no prepared rows, or no suspects.
    """
    prepared = read_prepared(prepared_in)
    if not prepared.ids:
        raise PipelineError(f"{prepared_in}: no prepared rows; run `heptune run data_preparation` first")
    labels = list_labels(settings, prepared, read_rows(folder / LABELS))
    if suspects:
        tasks = _read_quarantined_suspects(prepared_in / "quarantine.parquet") or list(
            _detect_suspects(prepared, noise)
        )
        if not tasks:
            raise PipelineError("annotate: no label looks wrong; there is nothing to export")
    else:
        columns = (prepared.ids, prepared.texts, prepared.labels, prepared.sources, prepared.splits)
        tasks = [
            Task(text, {"row": name, "source": source, "split": split}, label, 1.0)
            for name, text, label, source, split in zip(*columns, strict=True)
        ]
    path = folder / (SUSPECTS if suspects else ROWS)
    _write(path, make_tasks(tasks))
    _write(folder / CONFIG, make_config(labels).encode())
    return WrittenTasks(path, len(tasks), [])


def _read_quarantined_suspects(path: Path) -> list[Task]:
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


def _detect_suspects(prepared: PreparedRows, noise: Noise) -> Iterable[Task]:
    suspects = find_suspects(prepared.texts, prepared.labels, noise)
    for index, suggestion, probability in zip(suspects.places, suspects.suggested, suspects.other, strict=True):
        data = {
            "row": prepared.ids[index],
            "given": str(prepared.labels[index]),
            "source": prepared.sources[index],
            "split": prepared.splits[index],
        }
        yield Task(prepared.texts[index], data, suggestion, probability)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise PipelineError(f"{path}: cannot write ({error.strerror}); free some space and run again") from error
