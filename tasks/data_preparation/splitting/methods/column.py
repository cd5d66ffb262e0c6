"""The split that a column names, for data sets that are already split.

Good for: public benchmarks, on whose test split other models have been measured.

Example: ``{name: column, column: fold, test: [holdout]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.data_preparation.splitting.methods.assignment import Assigned, Shares, list_carried, read_column

if TYPE_CHECKING:
    import pyarrow as pa


class Column(Section):
    """By a column that names the split; a row with another value is quarantined."""

    name: Literal["column"] = "column"
    column: str = Field(default="split", min_length=1, description="column of the sources; or source, file, label")
    train: tuple[str, ...] = Field(default=("train", "training"), description="values that mean train, in any case")
    validation: tuple[str, ...] = Field(default=("validation", "valid", "val", "dev"), description="mean validation")
    test: tuple[str, ...] = Field(default=("test",), description="values that mean test")

    @model_validator(mode="after")
    def _differ(self) -> Column:
        values = [value.lower() for value in (*self.train, *self.validation, *self.test)]
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} cannot mean two splits")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return list_carried(self.column)

    @property
    def uses_shares(self) -> bool:
        return False

    def assign(self, table: pa.Table, folds: Sequence[str], shares: Shares, minimum: int) -> Assigned:
        """The split of each row."""
        from tasks.corpus.personal_data.identifiers import replace_personal

        split_of = {
            value.lower(): split
            for split, values in (("train", self.train), ("validation", self.validation), ("test", self.test))
            for value in values
        }
        values = read_column(table, self.column)
        splits = [None if value is None else split_of.get(value.strip().lower()) for value in values]
        reasons = [
            None
            if split
            else f'column "{self.column}" names no split ({"empty" if value is None else replace_personal(value)[:40]})'
            for split, value in zip(splits, values, strict=True)
        ]
        return Assigned(splits, reasons)
