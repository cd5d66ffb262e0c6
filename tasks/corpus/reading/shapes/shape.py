"""What a shape is: the columns that tell it, and how a row of it becomes a conversation.

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
# Column name to how telling it is of its role, 0 to 1.
Names = Mapping[str, float]
# Role to the column that plays it.
Columns = Mapping[str, str]

# A row to its turns, None where that takes more than a look.
Quick = Callable[[Row], Turns | None]

TELLING, USUAL, GENERAL = 1.0, 0.9, 0.7


class RowError(ValueError):
    """A row that does not have the shape of its source; the text is the reason, the same for like rows."""


def make_turn(role: str, text: str) -> dict[str, str]:
    """One turn of a conversation."""
    return {"role": role, "content": text}


@dataclass(frozen=True)
class Other:
    """Another answer to the same prompt: its turns, and how good it is where the row says so."""

    turns: Turns
    score: float | None


class ConvertedRow(NamedTuple):
    """A row as a conversation.

    Attributes:
        turns: The conversation with the preferred answer.
        start: Turns before the answer, where the row says how good its answer is; None elsewhere.
        score: How good the answer is, larger is better.
        preferred: Whether the answer is one to learn from.
        others: The row's other answers, best first.
    """

    turns: Turns
    start: int | None = None
    score: float | None = None
    preferred: bool = True
    others: Sequence[Other] = ()


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        name: As in params.
        columns: What it looks like, for messages to the user.
        required: Role to the columns that can play it.
        convert: A row to its conversation; raises `RowError`.
        optional: Further roles.
        tier: 0 for a text alone, 1 for a text with a label, 2 for prompts with answers; a shape of a higher tier
            that fits is preferred.
        evidence: What the values of the columns say, 0 to 1; 1 where there is nothing to check.
        doubt: What makes its evidence small, for messages to the user.
        compares: Whether its rows say how good their answers are.
        quicken: For columns, a function that gives the turns of a plain row at once, as ``convert`` would, and None
            for any other.
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
    quicken: Callable[[Columns], Quick | None] | None = None


def fold_name(name: str) -> str:
    """A column's name without regard to case and to spaces around it."""
    return name.strip().lower()


def bind_columns(shape: Shape, names: Collection[str]) -> dict[str, str] | None:
    """Which columns play the roles of a shape, the most telling first; None when a required one is missing."""
    folded = {fold_name(name): name for name in reversed(list(names))}
    bound: dict[str, str] = {}
    for roles, needed in ((shape.required, True), (shape.optional, False)):
        for role, aliases in roles.items():
            spelled = ((alias, alias if alias in names else folded.get(alias.lower())) for alias in aliases)
            present = [(aliases[alias], name) for alias, name in spelled if name is not None]
            free = [(weight, name) for weight, name in present if name not in bound.values()]
            if free:
                bound[role] = max(free, key=lambda one: one[0])[1]
            elif needed:
                return None
    return bound


def weigh_name(aliases: Names, name: str) -> float:
    """How telling a column's name is of its role; a name that params gave is telling."""
    return aliases.get(name, max((aliases[a] for a in aliases if a.lower() == fold_name(name)), default=TELLING))


def weigh_columns(shape: Shape, columns: Columns) -> float:
    """How telling the columns of the required roles are: that of the least telling one."""
    return min(weigh_name(aliases, columns[role]) for role, aliases in shape.required.items())


def read_text(row: Row, column: str) -> str:
    """A column as text; an absent value is empty text, which the cleaning drops with its reason.

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
        column: In which it stands, for the error.

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
