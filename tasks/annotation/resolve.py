"""One label per text from the labels of several annotators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.annotation.label_studio import AnnotatedText
from tasks.annotation.params import Resolve
from tasks.contracts.errors import PipelineError, raise_all
from tasks.corpus.weak_supervision.label_model import fit_label_model

TIE = "annotators are tied"
# A most probable label at or below this is treated as a tie.
MINIMUM_PROBABILITY = 0.5


@dataclass(frozen=True)
class ResolvedLabels:
    """One label per text, where the annotations determine one.

    Attributes:
        labels: Label of each task, None where it has none.
        why: Reason for each task without a label, else empty.
        agreement: For each task the share of its annotators who chose the label.
        accuracies: Annotator to estimated accuracy; empty for majority vote.
    """

    labels: list[str | None]
    why: list[str]
    agreement: list[float]
    accuracies: dict[str, float]


def check_labels(tasks: Sequence[AnnotatedText], allowed: Sequence[str]) -> None:
    """Refuse labels that are not allowed; an empty list allows all.

    Raises:
        PipelineError: Lists them, with the first task of each.
    """
    unknown: dict[str, str] = {}
    for task in tasks:
        for label in task.votes.values():
            if allowed and label not in allowed:
                unknown.setdefault(label, task.task)
    raise_all(
        [
            f'{task} has the label "{label}", which is none of {", ".join(allowed)}; correct it there, or add it to '
            "annotation.labels"
            for label, task in unknown.items()
        ],
        "labels",
    )


def resolve_labels(tasks: Sequence[AnnotatedText], how: Resolve) -> ResolvedLabels:
    """One label per task.

    Args:
        tasks: Annotated texts.
        how: ``majority``, or ``label_model``, which weights annotators by an accuracy estimated from their agreement.
    """
    accuracies: dict[str, float] = {}
    chosen = [_majority_label(task.votes) for task in tasks]
    names = sorted({name for task in tasks for name in task.votes})
    labels = sorted({label for task in tasks for label in task.votes.values()})
    if how == "label_model" and len(labels) > 1:
        model = fit_label_model([[task.votes.get(name) for task in tasks] for name in names], labels)
        accuracies = {name: float(value) for name, value in zip(names, model.accuracies, strict=True)}
        best = model.probabilities.argmax(axis=1).tolist()
        probability = model.probabilities.max(axis=1).tolist()
        chosen = [
            labels[index] if task.votes and value > MINIMUM_PROBABILITY else None
            for task, index, value in zip(tasks, best, probability, strict=True)
        ]
    why = ["" if label is not None else _explain(task) for task, label in zip(tasks, chosen, strict=True)]
    agreement = [
        sum(vote == label for vote in task.votes.values()) / max(len(task.votes), 1)
        for task, label in zip(tasks, chosen, strict=True)
    ]
    return ResolvedLabels(chosen, why, agreement, accuracies)


def _majority_label(votes: Mapping[str, str]) -> str | None:
    top = Counter(votes.values()).most_common(2)
    if not top or (len(top) == 2 and top[0][1] == top[1][1]):
        return None
    return top[0][0]


def _explain(task: AnnotatedText) -> str:
    if task.votes:
        return TIE
    if task.cancelled:
        return "skipped by its annotators"
    return "annotated without a label" if task.empty else "not annotated"


def make_rows(tasks: Sequence[AnnotatedText], resolved: ResolvedLabels) -> list[dict[str, Any]]:
    """The rows of ``labels.jsonl``: text, label, annotators, agreement."""
    return [
        {
            "text": task.text,
            "label": label,
            "annotators": sorted(task.votes),
            "agreement": round(agreement, 4),
        }
        for task, label, agreement in zip(tasks, resolved.labels, resolved.agreement, strict=True)
        if label is not None
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of earlier imports; none where there is no file.

    Raises:
        PipelineError: A line has no text or label.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = orjson.loads(line)
            rows.append({"text": str(row["text"]), "label": str(row["label"]), **row})
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise PipelineError(
                f"{path}:{number}: not a row with text and label; correct or delete the line"
            ) from error
    return rows


def merge_rows(before: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier rows and new ones; a new row replaces an earlier one with the same text, in its position."""
    merged = {row["text"]: row for row in before}
    for row in new:
        merged[row["text"]] = row
    return list(merged.values())
