"""Several people's labels of a text made into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.annotation.label_studio import Annotated
from tasks.annotation.params import Resolve
from tasks.contracts.errors import PipelineError, raise_all
from tasks.corpus.weak_supervision.label_model import fit_label_model

TIE = "annotators are tied"
# Below this the label model is as undecided as a tie.
DECIDED = 0.5


@dataclass(frozen=True)
class Resolved:
    """One label per text, where there is one.

    Attributes:
        labels: Per task the label, None where it is left open.
        why: Per task why it is left open, empty where it is not.
        agreement: Per task the share of its annotators who chose the label.
        accuracies: Annotator to estimated accuracy; empty for majority vote.
    """

    labels: list[str | None]
    why: list[str]
    agreement: list[float]
    accuracies: dict[str, float]


def check_labels(tasks: Sequence[Annotated], allowed: Sequence[str]) -> None:
    """Refuse labels that are none of those allowed; without such a list all are.

    Raises:
        PipelineError: Naming them, with the first task of each.
    """
    strange: dict[str, str] = {}
    for task in tasks:
        for label in task.votes.values():
            if allowed and label not in allowed:
                strange.setdefault(label, task.place)
    raise_all(
        [
            f'{place} has the label "{label}", which is none of {", ".join(allowed)}; correct it there, or add it to '
            "annotation.labels"
            for label, place in strange.items()
        ],
        "labels",
    )


def resolve_labels(tasks: Sequence[Annotated], how: Resolve) -> Resolved:
    """One label per task.

    Args:
        tasks: As annotated.
        how: ``majority``, or ``label_model``: annotators weigh by how often they are right, learned from who agrees
            with whom.
    """
    accuracies: dict[str, float] = {}
    chosen = [_count_majority(task.votes) for task in tasks]
    names = sorted({name for task in tasks for name in task.votes})
    labels = sorted({label for task in tasks for label in task.votes.values()})
    if how == "label_model" and len(labels) > 1:
        model = fit_label_model([[task.votes.get(name) for task in tasks] for name in names], labels)
        accuracies = {name: float(value) for name, value in zip(names, model.accuracies, strict=True)}
        best = model.probabilities.argmax(axis=1).tolist()
        sure = model.probabilities.max(axis=1).tolist()
        chosen = [
            labels[place] if task.votes and value > DECIDED else None
            for task, place, value in zip(tasks, best, sure, strict=True)
        ]
    why = ["" if label is not None else _explain(task) for task, label in zip(tasks, chosen, strict=True)]
    agreement = [
        sum(vote == label for vote in task.votes.values()) / max(len(task.votes), 1)
        for task, label in zip(tasks, chosen, strict=True)
    ]
    return Resolved(chosen, why, agreement, accuracies)


def _count_majority(votes: Mapping[str, str]) -> str | None:
    first = Counter(votes.values()).most_common(2)
    if not first or (len(first) == 2 and first[0][1] == first[1][1]):
        return None
    return first[0][0]


def _explain(task: Annotated) -> str:
    if task.votes:
        return TIE
    if task.cancelled:
        return "skipped by its annotators"
    return "annotated without a label" if task.empty else "not annotated"


def make_rows(tasks: Sequence[Annotated], resolved: Resolved) -> list[dict[str, Any]]:
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
    """The rows that are there already; none where there is no file.

    Raises:
        PipelineError: A line is none that an import wrote.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = orjson.loads(line)
            rows.append({"text": str(row["text"]), "label": str(row["label"]), **row})
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise PipelineError(f"{path}:{number}: no row with text and label; mend or delete the line") from error
    return rows


def merge_rows(before: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier rows and new ones; of a text that is in both the new one, in the old one's place."""
    merged = {row["text"]: row for row in before}
    for row in new:
        merged[row["text"]] = row
    return list(merged.values())
