"""Work on parts of the rows, one after the other or many at a time: the results come in the order of the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

P = TypeVar("P")
R = TypeVar("R")


class Spread(Protocol):
    """Does work on parts."""

    @property
    def rows(self) -> int | None:
        """Rows that make a part; None: parts would gain nothing."""
        ...

    def __call__(self, name: str, work: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        """The results, in the order of the parts.

        Args:
            name: Of the work, for people.
            work: From a part to its result; depends on nothing else, and can be done again.
            parts: Taken as they are needed, only a few ahead.
        """
        ...


class InTurn:
    """One part after the other, here."""

    rows: int | None = None

    def __call__(self, name: str, work: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        return map(work, parts)


IN_TURN = InTurn()
