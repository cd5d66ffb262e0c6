"""All rows of a group in one split, by the hash of the group's name: a customer, a document, an annotator.

Good for: rows that share features a model could recognise, which would leak. A group never changes its split when
rows are added. Rows without a group are split by their own passage or prompt.

Example: ``{name: grouped, column: customer_id}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.splitting.methods.assignment import (
    Assigned,
    Shares,
    assign_all,
    choose_splits,
    list_carried,
    read_column,
)

if TYPE_CHECKING:
    import pyarrow as pa


class Grouped(Section):
    """By the hash of a column."""

    name: Literal["grouped"] = "grouped"
    column: str = Field(min_length=1, description="column of the sources that names the group; or source, file, label")

    @property
    def columns(self) -> tuple[str, ...]:
        return list_carried(self.column)

    @property
    def uses_shares(self) -> bool:
        return True

    def assign(self, table: pa.Table, folds: Sequence[str], shares: Shares, minimum: int) -> Assigned:
        """The split of each row."""
        groups = read_column(table, self.column)
        return assign_all(
            choose_splits(
                (fold if group is None else f"group\0{group}" for group, fold in zip(groups, folds, strict=True)),
                shares,
            )
        )
