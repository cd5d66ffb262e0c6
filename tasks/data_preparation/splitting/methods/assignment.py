"""What all split methods share: the names of the splits, their shares, and random draws that depend on a key alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tasks.corpus.text.draws import hash_key

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
# Columns that every row has; any other column comes from the source.
ROW_COLUMNS = ("source", "file", "label")


class Shares(Protocol):
    """Shares of the held-out splits, and the seed."""

    @property
    def validation(self) -> float: ...
    @property
    def test(self) -> float: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Assigned:
    """The split of each row.

    Attributes:
        splits: Per row its split, None where none could be assigned.
        reasons: Per row why none could be assigned, None where one was.
    """

    splits: list[str | None]
    reasons: list[str | None]


def assign_all(splits: list[str]) -> Assigned:
    """The assignment of rows that all have a split."""
    return Assigned([*splits], [None] * len(splits))


def choose_splits(keys: Iterable[str], shares: Shares) -> list[str]:
    """The split of each key by its hash in [0, 1): test below the share of test, then validation, then train."""
    import numpy as np

    values = np.frombuffer(b"".join(hash_key("split", shares.seed, key) for key in keys), ">u8") / 2.0**64
    places = np.searchsorted([shares.test, shares.test + shares.validation], values, side="right")
    splits: list[str] = np.array(["test", "validation", "train"])[places].tolist()
    return splits


def read_column(table: pa.Table, name: str) -> list[str | None]:
    """The values of a column of the rows or of their source, as text; None where it is empty."""
    from tasks.corpus.rows.rows import CARRIED

    values: list[str | None] = table[name if name in ROW_COLUMNS else CARRIED + name].to_pylist()
    return [value if value is not None and value.strip() else None for value in values]


def list_carried(*columns: str) -> tuple[str, ...]:
    """Of the columns a split method reads, those that must be carried along from the sources."""
    return tuple(column for column in columns if column not in ROW_COLUMNS)
