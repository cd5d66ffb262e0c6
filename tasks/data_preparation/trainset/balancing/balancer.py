"""Input and output of every balancing method: labelled training rows, and the repetitions of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.corpus.text.draws import draw

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Labelled:
    """Training rows with a label.

    Attributes:
        ids: Content hash of each row.
        labels: Label of each row.
        times: Number of times each row occurs in the training split.
        texts: Prompt of each row.
    """

    ids: list[str]
    labels: list[str]
    times: list[int]
    texts: list[str]

    def group(self) -> dict[str, list[int]]:
        """Label to the indices of its rows, sorted by label."""
        groups: dict[str, list[int]] = {}
        for row, label in enumerate(self.labels):
            groups.setdefault(label, []).append(row)
        return dict(sorted(groups.items()))

    def count(self) -> dict[str, int]:
        """Label to its number of rows including repetitions, sorted by label."""
        return {label: sum(self.times[row] for row in rows) for label, rows in self.group().items()}


@dataclass(frozen=True)
class Balanced:
    """The result of balancing.

    Attributes:
        times: Number of times each row shall occur in the training split; 0 for a dropped row.
        vectors: Columns of `tasks.contracts.balance.VECTORS`, if the method makes vectors.
        notes: Figures of the step.
    """

    times: list[int]
    vectors: pa.Table | None = None
    notes: Mapping[str, int | float] | None = None


def sort_by_draw(rows: list[int], ids: list[str], purpose: str, seed: int) -> list[int]:
    """The rows in a random order that depends on seed and content alone."""
    return sorted(rows, key=lambda row: (draw(purpose, seed, ids[row]), row))


def raise_counts(counts: Mapping[str, int], ratio: float) -> dict[str, int]:
    """Per label its target number of rows, at least that of the largest label divided by the ratio."""
    minimum = int(max(counts.values(), default=0) / ratio)
    return {label: max(count, minimum) for label, count in counts.items()}
