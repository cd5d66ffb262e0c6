"""The same shares in every class, to within one row, however small the class.

Rows are taken in their order, class by class. The k-th row of a class (rows of one passage or folded prompt counting
once) goes to a held-out split when the expected count of the class, k times the share, exceeds the next of a sequence
of random thresholds, one drawn in each interval between two whole numbers: stratified sampling along the order. Until
every split has its minimum, rows go to train, test and validation in turn.

The split of a row depends on its class and on the rows of its class before it. Rows added after all others therefore
move no existing row; rows inserted between existing ones may.

Good for: small or imbalanced classes, some of which would have no test row by hash alone.

Example: with a share of 0.1 a class of 100 rows has 10 in test; by hash alone between 5 and 16 in
19 of 20 cases.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.draws import draw
from tasks.data_preparation.splitting.methods.assignment import Assigned, Shares, assign_all, list_carried, read_column

if TYPE_CHECKING:
    import pyarrow as pa


class Stratified(Section):
    """Even shares per class."""

    name: Literal["stratified"] = "stratified"
    column: str = Field(default="label", min_length=1, description="the class: label, source, file or a column")

    @property
    def columns(self) -> tuple[str, ...]:
        return list_carried(self.column)

    @property
    def uses_shares(self) -> bool:
        return True

    def assign(self, table: pa.Table, folds: Sequence[str], shares: Shares, minimum: int) -> Assigned:
        """The split of each row; rows without a class form one class."""
        split_of_fold: dict[str, str] = {}
        class_counts: dict[str, int] = defaultdict(int)
        assigned: dict[tuple[str, str], int] = defaultdict(int)
        splits = []
        for value, fold in zip(read_column(table, self.column), folds, strict=True):
            if fold not in split_of_fold:
                name = "" if value is None else f"={value}"
                class_counts[name] += 1
                split_of_fold[fold] = self._choose(name, class_counts[name], assigned, shares, minimum)
            splits.append(split_of_fold[fold])
        return assign_all(splits)

    def _choose(self, name: str, count: int, assigned: dict[tuple[str, str], int], shares: Shares, minimum: int) -> str:
        if minimum and count == 1:
            return "train"
        # In turn: train, test, validation, train, ... until each has its minimum.
        targets = (("test", shares.test, (count + 1) // 3), ("validation", shares.validation, count // 3))
        for split, share, turn in targets:
            due = max(count_due(split, name, count * share, shares.seed), min(minimum, turn))
            if assigned[name, split] < due:
                assigned[name, split] += 1
                return split
        return "train"


def count_due(split: str, name: str, amount: float, seed: int) -> int:
    """Number of random thresholds, one between each two whole numbers, that lie below an amount."""
    whole = math.floor(amount)
    return whole + (draw(f"stratum {split} {name}", seed, str(whole)) < amount - whole)
