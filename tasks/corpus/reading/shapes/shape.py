"""Shapes of rows: the columns that identify a shape, and the conversion of its rows to conversations.

Example:
    ``{"question": "Why?", "answer": "Because.", "id": 7}`` becomes the turns ``user: Why?`` and
    ``assistant: Because.``
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Turns = list[dict[str, str]]
Row = Mapping[str, Any]
# Column name to its weight: how specific the name is to its role, 0 to 1.
Names = Mapping[str, float]
# Role to the column bound to it.
Columns = Mapping[str, str]

# Fast conversion of a row to its turns; None for rows that need the full conversion.
FastPath = Callable[[Row], Turns | None]

# Key of a turn, an answer that is not to be learned.
NOT_LEARNED = "not_learned"
# Weights of column names: used by one format alone, usual for the role, general.
SPECIFIC, USUAL, GENERAL = 1.0, 0.9, 0.7


class RowError(ValueError):
    """A row that does not fit the shape of its source; the message is the reason, without values of the row."""


def make_turn(role: str, text: str, learned: bool = True) -> dict[str, str]:
    """One turn of a conversation; an answer that is not to be learned has the key `NOT_LEARNED`."""
    return {"role": role, "content": text} if learned else {"role": role, "content": text, NOT_LEARNED: "yes"}


@dataclass(frozen=True)
class Other:
    """Another answer to the same prompt: its turns, and its score if the row has one."""

    turns: Turns
    score: float | None


class ConvertedRow(NamedTuple):
    """A row as a conversation.

    Attributes:
        turns: The conversation with the preferred answer.
        start: Number of turns before the answer if the row rates its answer, else None.
        score: Score of the answer, larger is better.
        preferred: Whether the answer is suited for supervised training.
        others: The row's other answers, best first.
        steps: Whether each step of the answer is right; empty where the row does not say.
    """

    turns: Turns
    start: int | None = None
    score: float | None = None
    preferred: bool = True
    others: Sequence[Other] = ()
    steps: Sequence[bool] = ()


@dataclass(frozen=True)
class Shape:
    """One shape of rows.

    Attributes:
        name: As in params.
        columns: Its columns, for messages to the user.
        required: Required roles, each to the weighted names of its columns.
        convert: Converts a row to a conversation; raises `RowError`.
        optional: Optional roles, likewise.
        tier: 0 for a text alone, 1 for a text with a label, 2 for prompts with answers; of the shapes that fit, a
            higher tier is preferred.
        evidence: Weight of the values of the columns, 0 to 1; 1 when there is nothing to check.
        doubt: Reason for a low evidence, for messages to the user.
        compares: Whether its rows rate their answers.
        make_fast_path: For bound columns, a function that converts simple rows as ``convert`` does, but faster, and
            returns None for other rows; None when there is no such function.
    """

    name: str
    columns: str
    required: Mapping[str, Names]
    convert: Callable[[Row, Columns], ConvertedRow]
    optional: Mapping[str, Names] = field(default_factory=dict)
    tier: int = 2
    evidence: Callable[[Sequence[Row], Columns], float] = lambda rows, columns: 1.0
    doubt: str = ""
    compares: bool = False
    make_fast_path: Callable[[Columns], FastPath | None] | None = None


def fold_name(name: str) -> str:
    """The name of a column in lower case, without surrounding spaces."""
    return name.strip().lower()


def bind_columns(shape: Shape, names: Collection[str]) -> dict[str, str] | None:
    """Bind each role of a shape to its column with the largest weight; None when a required role has none."""
    folded = {fold_name(name): name for name in reversed(list(names))}
    bound: dict[str, str] = {}
    for roles, needed in ((shape.required, True), (shape.optional, False)):
        for role, aliases in roles.items():
            candidates = ((alias, alias if alias in names else folded.get(alias.lower())) for alias in aliases)
            weighted = [(aliases[alias], name) for alias, name in candidates if name is not None]
            unbound = [(weight, name) for weight, name in weighted if name not in bound.values()]
            if unbound:
                bound[role] = max(unbound, key=lambda candidate: candidate[0])[1]
            elif needed:
                return None
    return bound


def weigh_name(aliases: Names, name: str) -> float:
    """The weight of a column name for its role; a name given in params has the full weight."""
    return aliases.get(name, max((aliases[a] for a in aliases if a.lower() == fold_name(name)), default=SPECIFIC))


def weigh_columns(shape: Shape, columns: Columns) -> float:
    """The smallest weight of the columns of the required roles."""
    return min(weigh_name(aliases, columns[role]) for role, aliases in shape.required.items())


def read_text(row: Row, column: str) -> str:
    """A column as text; a null value is empty text, which the cleaning drops with its reason.

    Raises:
        RowError: The column is absent or holds no text.
    """
    if column not in row:
        raise RowError(f'no "{column}"')
    return make_text(row[column], column)


def make_text(value: Any, column: str) -> str:
    """A value as text.

    Args:
        value: A text, a number or None.
        column: Its column, for the error message.

    Raises:
        RowError: It is no text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise RowError(f'"{column}" is no text')
