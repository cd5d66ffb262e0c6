"""What every way to split has in common: the names, the wanted shares, and draws that depend on a key alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tasks.corpus.text.draws import hash_key

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
OWN = ("source", "file", "label")


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
        splits: Per row its split, None where it has none.
        reasons: Per row why it has none, None where it has one.
    """

    splits: list[str | None]
    reasons: list[str | None]


def assign_all(splits: list[str]) -> Assigned:
    """Every row has a split."""
    return Assigned([*splits], [None] * len(splits))


def choose_splits(keys: Iterable[str], shares: Shares) -> list[str]:
    """The split of each key, by its own hash: test below its share, validation in the next, then train."""
    import numpy as np

    values = np.frombuffer(b"".join(hash_key("split", shares.seed, key) for key in keys), ">u8") / 2.0**64
    places = np.searchsorted([shares.test, shares.test + shares.validation], values, side="right")
    splits: list[str] = np.array(["test", "validation", "train"])[places].tolist()
    return splits


def read_column(table: pa.Table, name: str) -> list[str | None]:
    """The values of a column of the rows or of their source, as text."""
    from tasks.corpus.rows.rows import CARRIED

    values: list[str | None] = table[name if name in OWN else CARRIED + name].to_pylist()
    return [value if value is not None and value.strip() else None for value in values]


def list_carried(*columns: str) -> tuple[str, ...]:
    """Of the columns a split reads, those that the rows do not have by themselves."""
    return tuple(column for column in columns if column not in OWN)
