"""What every way to split has in common: the names, the wanted shares, and draws that depend on a key alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from tasks.data_preparation.rows import CARRIED

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


def draw(purpose: str, seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def choose_split(key: str, shares: Shares) -> str:
    """The split of a key, by its own hash."""
    value = draw("split", shares.seed, key)
    if value < shares.test:
        return "test"
    return "validation" if value < shares.test + shares.validation else "train"


def read_column(table: pa.Table, name: str) -> list[str | None]:
    """The values of a column of the rows or of their source, as text."""
    values: list[str | None] = table[name if name in OWN else CARRIED + name].to_pylist()
    return [value if value is not None and value.strip() else None for value in values]


def list_carried(*columns: str) -> tuple[str, ...]:
    """Of the columns a split reads, those that the rows do not have by themselves."""
    return tuple(column for column in columns if column not in OWN)
