"""The same shares in every class, to within one row, however small the class.

Rows are taken in their order, class by class. The k-th row of a class (rows of one folded prompt counting once)
goes to a held-out split when the class's due count, k times the share, passes the next of a row of random
thresholds, one drawn in each interval between two whole numbers: stratified sampling along the order. Until every
split has its minimum, rows go to train, test and validation in turn.

The split of a row depends on its class and on the rows of its class before it. Rows added after all others therefore
move no old row; rows put between old ones may.

Good for: small or uneven classes, where the hash of a row alone leaves some class without a test row.

Example: with a share of 0.1 a class of 100 rows has 10 in test; by hash alone 5 to 16, 19 times of 20.
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
        """The split of each row; rows without a class are a class of their own."""
        of_fold: dict[str, str] = {}
        seen: dict[str, int] = defaultdict(int)
        held: dict[tuple[str, str], int] = defaultdict(int)
        splits = []
        for value, fold in zip(read_column(table, self.column), folds, strict=True):
            if fold not in of_fold:
                name = "" if value is None else f"={value}"
                seen[name] += 1
                of_fold[fold] = self._choose(name, seen[name], held, shares, minimum)
            splits.append(of_fold[fold])
        return assign_all(splits)

    def _choose(self, name: str, count: int, held: dict[tuple[str, str], int], shares: Shares, minimum: int) -> str:
        if minimum and count == 1:
            return "train"
        # In turn: train, test, validation, train, ... until each has its minimum.
        wanted = (("test", shares.test, (count + 1) // 3), ("validation", shares.validation, count // 3))
        for split, share, turn in wanted:
            due = max(count_due(split, name, count * share, shares.seed), min(minimum, turn))
            if held[name, split] < due:
                held[name, split] += 1
                return split
        return "train"


def count_due(split: str, name: str, amount: float, seed: int) -> int:
    """How many of the random thresholds, one between each two whole numbers, an amount has passed."""
    whole = math.floor(amount)
    return whole + (draw(f"stratum {split} {name}", seed, str(whole)) < amount - whole)
