"""Which shape the rows of a source have, and how sure that is.

The confidence in a shape is the share of the rows looked at that convert to a conversation with something in every
turn, times how telling the names of its columns are (1 for names that one format uses, 0.9 for usual and 0.7 for
general ones), times what its values say (labels should repeat). A shape gives way to one that explains the same
columns and more: question and answer to question, context and answers; a text to a text with a label, and both to
a prompt with an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import orjson

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.shapes.choices import IN_COLUMNS, MULTIPLE_CHOICE, STEM
from tasks.corpus.reading.shapes.dialogues import MESSAGES, OTHER_KEYS, SHAREGPT, ULTRACHAT, find_keys
from tasks.corpus.reading.shapes.nested import is_folded
from tasks.corpus.reading.shapes.pairs import ALPACA, PAIRS, PROMPT_COMPLETION, QUESTION_ANSWER
from tasks.corpus.reading.shapes.preferences import (
    KTO,
    KTO_TURNS,
    PREFERENCE,
    PREFERENCE_AFTER_TURNS,
    PREFERENCE_IMPLICIT,
)
from tasks.corpus.reading.shapes.ranked import PAIRWISE, RANKED
from tasks.corpus.reading.shapes.shape import (
    TELLING,
    Columns,
    ConvertedRow,
    Quick,
    Row,
    RowError,
    Shape,
    bind_columns,
    fold_name,
    weigh_columns,
    weigh_name,
)
from tasks.corpus.reading.shapes.squad import SQUAD
from tasks.corpus.reading.shapes.texts import PLAIN_TEXT, TEXT_LABEL, TEXT_PAIRS

SHAPES = (
    MESSAGES,
    SHAREGPT,
    ALPACA,
    PROMPT_COMPLETION,
    QUESTION_ANSWER,
    TEXT_LABEL,
    PLAIN_TEXT,
    PREFERENCE,
    PREFERENCE_AFTER_TURNS,
    PREFERENCE_IMPLICIT,
    KTO,
    KTO_TURNS,
    RANKED,
    *PAIRWISE,
    SQUAD,
    MULTIPLE_CHOICE,
    *IN_COLUMNS,
    STEM,
    ULTRACHAT,
    *PAIRS,
    *TEXT_PAIRS,
)
# Variants of a shape that has a name already.
VARIANTS = (*PAIRWISE[1:], *IN_COLUMNS[1:], STEM, ULTRACHAT, *PAIRS, *TEXT_PAIRS[1:])
KNOWN = {
    fold_name(name) for shape in SHAPES if shape is not ULTRACHAT for names in shape.required.values() for name in names
}
CLASSES = ("label", "intent", "category")
LOOKED_AT = 500
SUGGESTED_FROM = 50
# Below the first a shape is a guess; closer than the second two shapes are alike.
SURE, CLEAR = 0.5, 0.15


@dataclass(frozen=True)
class Recognised:
    """How the rows of a source are read.

    Attributes:
        name: Of the shape.
        columns: Role to column.
        confidence: 0 to 1; 1 where params name the shape or the columns.
        candidates: Confidence of every shape that some row has, the surest first.
        shape: The shape; None for a source without rows.
    """

    name: str
    columns: Columns = field(default_factory=dict)
    confidence: float = 1.0
    candidates: Mapping[str, float] = field(default_factory=dict)
    shape: Shape | None = None

    @property
    def compares(self) -> bool:
        """Whether its rows say how good their answers are."""
        return self.shape is not None and self.shape.compares

    def convert(self, row: Row) -> ConvertedRow:
        """A row as a conversation.

        Raises:
            RowError: It does not have the shape.
        """
        if self.shape is None:
            raise RowError("no shape")
        if self._dotted:
            row = open_paths(row, self.columns)
        turns = self._quick(row) if self._quick is not None else None
        return self.shape.convert(row, self.columns) if turns is None else ConvertedRow(turns)

    @cached_property
    def _dotted(self) -> bool:
        return any("." in name for name in self.columns.values())

    @cached_property
    def _quick(self) -> Quick | None:
        quicken = self.shape.quicken if self.shape is not None else None
        return quicken(self.columns) if quicken is not None else None


@dataclass(frozen=True)
class _Candidate:
    shape: Shape
    columns: Columns
    confidence: float

    def explains(self, other: _Candidate) -> bool:
        """Whether the other's columns are all among these, and these are more; or they are the dialogue that one of
        these answers ends."""
        mine, theirs = set(self.columns.values()), set(other.columns.values())
        judged = self.shape.name == "preference" and set(other.columns) == {"messages"}
        return self.shape.tier > other.shape.tier or theirs < mine or judged


def is_row(value: Any) -> bool:
    """Whether an object is itself a row: of some shape by its columns, or with a list of turns under any name."""
    if not isinstance(value, dict):
        return False
    return is_folded(value) or bool(_bind_all(_known(value))) or any(map(_holds_turns, value.values()))


def holds_prompt(value: Any) -> bool:
    """Whether an object is a row with a prompt or turns; one with a text alone may as well describe a file."""
    if not isinstance(value, dict):
        return False
    bound = _bind_all(_known(value))
    return is_folded(value) or any(shape.tier == 2 for shape in bound) or any(map(_holds_turns, value.values()))


def _known(row: Row) -> frozenset[str]:
    return frozenset(name for name in map(fold_name, row) if name in KNOWN)


def _holds_turns(value: Any) -> bool:
    return isinstance(value, list) and find_keys(value) is not None


@lru_cache(maxsize=1024)
def _bind_all(names: frozenset[str]) -> tuple[Shape, ...]:
    return tuple(shape for shape in SHAPES if bind_columns(shape, names) is not None)


def recognise_shape(title: str, rows: Sequence[Row]) -> Recognised:
    """The shape of a source: the surest one.

    Args:
        title: Name of the source, for messages.
        rows: Its rows; up to 500, evenly spaced, are looked at.

    Raises:
        PipelineError: No shape is sure enough, or two are alike.
    """
    looked_at = take_evenly(rows)
    found = weigh_shapes(looked_at, SHAPES)
    candidates = {c.shape.name: c.confidence for c in found}
    ranked = [c for c in found if not any(o.explains(c) for o in found if o.confidence >= SURE)]
    if not ranked or ranked[0].confidence < SURE:
        guess = f"; nearest is {_show(ranked[:3])}" if ranked else ""
        raise PipelineError(
            f'source "{title}": unknown shape, columns {name_columns(looked_at)}{guess}{_explain(looked_at)}; '
            f"{_suggest(looked_at)}; known are "
            + "; ".join(dict.fromkeys(f"{shape.name} ({shape.columns})" for shape in SHAPES if shape not in VARIANTS))
        )
    alike = [c for c in ranked if c.confidence > ranked[0].confidence - CLEAR]
    if len(alike) > 1:
        raise PipelineError(
            f'source "{title}": its rows fit {_show(alike, " and ")} alike, columns '
            f"{name_columns(looked_at)}, such as {show_rows(looked_at)}; set shape or fields"
        )
    best = ranked[0]
    return Recognised(best.shape.name, best.columns, best.confidence, candidates, best.shape)


def _explain(rows: Sequence[Row]) -> str:
    """What keeps the rows from the shapes whose columns they have."""
    names = dict.fromkeys(column for row in rows for column in row)
    reasons: dict[str, str] = {}
    for shape in SHAPES:
        columns = bind_columns(shape, names)
        if columns is None:
            continue
        reason = _object(shape, rows[0], columns) or (shape.doubt if shape.evidence(rows, columns) < SURE else "")
        if reason and reason != OTHER_KEYS:
            reasons.setdefault(shape.name, reason)
    return "".join(f"; no {name}, since {reason}" for name, reason in list(reasons.items())[:2])


def _object(shape: Shape, row: Row, columns: Columns) -> str:
    try:
        shape.convert(row, columns)
    except RowError as error:
        return str(error)
    return ""


def _suggest(rows: Sequence[Row]) -> str:
    """What to write into params: the two columns that hold most text, in their order."""
    sizes: Counter[str] = Counter()
    for row in rows[:SUGGESTED_FROM]:
        sizes.update(dict(_measure_texts(row)))
    most = dict(sizes.most_common(2))
    found = [_quote(path) for path in sizes if path in most]
    if not found:
        return "name the columns with fields: {prompt: ..., answer: ...}"
    pair = f"fields: {{prompt: {found[0]}, answer: {found[1]}}} or " if len(found) > 1 else ""
    return f"name the columns, such as {pair}fields: {{text: {_quote(sizes.most_common(1)[0][0])}}}"


def _measure_texts(value: Any, path: str = "", levels: int = 6) -> Iterator[tuple[str, int]]:
    """The dotted names of the texts in a row and their lengths; of a list its first element's, of turns none."""
    if isinstance(value, str) and value.strip():
        yield path, len(value)
    below = value.items() if isinstance(value, Mapping) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in below if levels and find_keys(value) is None else ():
        yield from _measure_texts(item, f"{path}.{key}" if path else str(key), levels - 1)


def _quote(name: str) -> str:
    """A name as a YAML flow map takes it."""
    return name if re.fullmatch(r"[\w.][\w. -]*", name) and not name[0].isdecimal() else orjson.dumps(name).decode()


def use_shape(title: str, name: str, rows: Sequence[Row]) -> Recognised:
    """A shape named in params, on the columns that play its roles.

    Raises:
        PipelineError: The rows lack a column for one of its roles.
    """
    shapes = [shape for shape in SHAPES if shape.name == name]
    found = weigh_shapes(take_evenly(rows), shapes, empty=True)
    if not found:
        raise PipelineError(
            f'source "{title}": no row has the shape {name} ({" or ".join(shape.columns for shape in shapes[:2])}); '
            f"columns are {name_columns(rows)}; name them with fields, or correct shape"
        )
    return Recognised(name, found[0].columns, 1.0, {name: found[0].confidence}, found[0].shape)


def use_columns(title: str, columns: Columns, rows: Sequence[Row]) -> Recognised:
    """The shape whose roles are those of a field map, on its columns.

    Args:
        title: Name of the source, for messages.
        columns: Role to column.
        rows: Rows of the source.

    Raises:
        PipelineError: A column is in no row, or no row converts.
    """
    opened = [open_paths(row, columns) for row in rows]
    missing = [column for column in columns.values() if not any(column in row for row in opened)]
    if missing:
        raise PipelineError(
            f'source "{title}": fields name {missing}, which no row has; columns are {name_columns(rows)}'
        )
    looked_at = take_evenly(opened)
    share, best = max(
        ((share_of_fits(looked_at, shape, columns, empty=True), shape) for shape in shapes_of_roles(columns)),
        key=lambda found: found[0],
    )
    if not share:
        raise PipelineError(
            f'source "{title}": no row has {best.columns} in the columns {sorted(columns.values())} that fields name, '
            f"such as {show_rows(looked_at)}; correct fields"
        )
    return Recognised(f"{best.name} (fields)", columns, 1.0, {best.name: round(share, 4)}, best)


def shapes_of_roles(roles: Collection[str]) -> list[Shape]:
    """The shapes that have these roles and need no other, those with the fewest further roles first."""
    fitting = [s for s in SHAPES if set(s.required) <= set(roles) <= set(s.required) | set(s.optional)]
    return sorted(fitting, key=lambda shape: len(shape.optional))


def open_paths(row: Row, columns: Columns) -> Row:
    """The row with what a dotted column name reaches inside objects and lists: ``content.title``, ``turns.0``."""
    paths = [name for name in columns.values() if "." in name and name not in row]
    if not paths:
        return row
    opened = dict(row)
    for path in paths:
        value: Any = row
        for key in path.split("."):
            if isinstance(value, list):
                value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
            else:
                value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            opened[path] = value
    return opened


def find_label(found: Recognised, rows: Sequence[Row]) -> str | None:
    """The column with the class of each row, if the shape does not use it for something else."""
    if "label" in found.columns:
        return found.columns["label"]
    names = {fold_name(name): name for name in reversed(name_columns(rows[:LOOKED_AT], None))}
    for column in CLASSES:
        name = column if column in names.values() else names.get(column)
        if (
            name is not None
            and name not in found.columns.values()
            and any(isinstance(row.get(name), str | int) for row in rows[:LOOKED_AT])
        ):
            return name
    return None


def weigh_shapes(rows: Sequence[Row], shapes: Sequence[Shape], empty: bool = False) -> list[_Candidate]:
    """The shapes that some row has, the surest first, each name once; rows with empty turns count if told so."""
    names = dict.fromkeys(column for row in rows for column in row)
    found: dict[str, _Candidate] = {}
    for shape in shapes:
        columns = bind_columns(shape, names)
        if columns is None:
            continue
        columns = {role: name for role, name in columns.items() if not _is_constant(rows, shape, role, name)}
        confidence = round(
            share_of_fits(rows, shape, columns, empty) * weigh_columns(shape, columns) * shape.evidence(rows, columns),
            4,
        )
        known = found.get(shape.name)
        if confidence and (known is None or confidence > known.confidence):
            found[shape.name] = _Candidate(shape, columns, confidence)
    return sorted(found.values(), key=lambda c: -c.confidence)


def _is_constant(rows: Sequence[Row], shape: Shape, role: str, name: str) -> bool:
    """Whether a column that only may play a role says the same in every row, as a column about the whole set does."""
    if role in shape.required or weigh_name(shape.optional[role], name) == TELLING or len(rows) < 2:
        return False
    first = rows[0].get(name)
    return isinstance(first, str) and all(row.get(name) == first for row in rows)


def share_of_fits(rows: Sequence[Row], shape: Shape, columns: Columns, empty: bool = False) -> float:
    """Share of rows that convert, with something in every turn unless ``empty`` ones count too."""
    fits = 0
    for row in rows:
        try:
            turns = shape.convert(row, columns).turns
        except RowError:
            continue
        fits += empty or all(turn["content"].strip() for turn in turns if turn["role"] in ("user", "assistant"))
    return fits / max(len(rows), 1)


def take_evenly(rows: Sequence[Row]) -> list[Row]:
    """At most 500 rows, evenly spaced."""
    if len(rows) <= LOOKED_AT:
        return list(rows)
    return [rows[place * len(rows) // LOOKED_AT] for place in range(LOOKED_AT)]


def _show(candidates: Sequence[_Candidate], between: str = ", ") -> str:
    return between.join(f"{c.shape.name} (confidence {c.confidence:.2f})" for c in candidates)


def name_columns(rows: Sequence[Row], most: int | None = 20) -> list[str]:
    """Columns of the rows, in the order in which they first appear, the first 20."""
    return list(dict.fromkeys(column for row in rows for column in row))[:most]


def show_rows(rows: Sequence[Row], count: int = 3) -> str:
    """The first rows on one line, each cut to 120 characters."""
    return " | ".join(orjson.dumps(row, default=str).decode()[:120] for row in rows[:count])
