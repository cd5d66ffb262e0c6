"""The input of every pruning method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pool:
    """The training rows to select from, and the validation rows.

    Attributes:
        ids: Content hash of each training row.
        prompts: Prompt of each training row.
        answers: Answer of each training row.
        labels: Label of each training row, where it has one.
        validation_prompts: Prompts of the validation rows.
        validation_labels: Their labels.
        seed: Seed of all random choices.
    """

    ids: Sequence[str]
    prompts: Sequence[str]
    answers: Sequence[str]
    labels: Sequence[str | None]
    validation_prompts: Sequence[str]
    validation_labels: Sequence[str | None]
    seed: int


def code_labels(method: str, pool: Pool) -> tuple[list[str], Array]:
    """The classes, and the index of each row's class.

    Raises:
        PipelineError: A row has no label, or all have the same.
    """
    missing = sum(label is None for label in pool.labels)
    classes = sorted({label for label in pool.labels if label is not None})
    if missing or len(classes) < 2:
        raise PipelineError(
            f"pruning by {method}: {missing:,} of {len(pool.labels):,} training rows have no label and there are "
            f"{len(classes)} labels; it needs one on every row and two at least; take diversity instead, or "
            "difficulty with a model"
        )
    place = {label: number for number, label in enumerate(classes)}
    return classes, np.array([place[str(label)] for label in pool.labels], dtype=np.int64)
