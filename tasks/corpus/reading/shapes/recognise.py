"""Recognise the shape of the rows of a source, with a confidence.

The confidence in a shape is the share of sampled rows that convert to a conversation without empty turns, times the
weight of its column names (1 for names that one format uses, 0.9 for usual and 0.7 for general ones), times the
evidence of its values (labels should repeat). A shape gives way to one that explains the same columns and more:
question and answer to question, context and answers; a text to a text with a label, and both to a prompt with an
answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import orjson

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.shapes.choices import IN_COLUMNS, MULTIPLE_CHOICE, STEM
from tasks.corpus.reading.shapes.dialogues import MESSAGES, OTHER_KEYS, SHAREGPT, ULTRACHAT, find_keys
from tasks.corpus.reading.shapes.nested import is_nested
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
    SPECIFIC,
    Columns,
    ConvertedRow,
    FastPath,
    Row,
    RowError,
    Shape,
    bind_columns,
    fold_name,
    weigh_columns,
    weigh_name,
)
from tasks.corpus.reading.shapes.squad import SQUAD
from tasks.corpus.reading.shapes.stepwise import STEPWISE
from tasks.corpus.reading.shapes.suggestions import suggest_fields
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
    STEPWISE,
    SQUAD,
    MULTIPLE_CHOICE,
    *IN_COLUMNS,
    STEM,
    ULTRACHAT,
    *PAIRS,
    *TEXT_PAIRS,
)
# Variants of a shape, listed under its name once.
VARIANTS = (*PAIRWISE[1:], *IN_COLUMNS[1:], STEM, ULTRACHAT, *PAIRS, *TEXT_PAIRS[1:])
KNOWN_COLUMNS = {
    fold_name(name) for shape in SHAPES if shape is not ULTRACHAT for names in shape.required.values() for name in names
}
LABEL_COLUMNS = ("label", "intent", "category")
MAX_SAMPLE_ROWS = 500
# Below the minimum confidence no shape is accepted; within the margin two shapes are ambiguous.
MIN_CONFIDENCE, MIN_MARGIN = 0.5, 0.15


@dataclass(frozen=True)
class Recognised:
    """The recognised shape of a source.

    Attributes:
        name: Name of the shape.
        columns: Role to column.
        confidence: 0 to 1; 1 when params name the shape or the columns.
        candidates: Confidence in every shape that fits some row, in descending order.
        shape: The shape; None for a source without rows.
    """

    name: str
    columns: Columns = field(default_factory=dict)
    confidence: float = 1.0
    candidates: Mapping[str, float] = field(default_factory=dict)
    shape: Shape | None = None

    @property
    def compares(self) -> bool:
        """Whether its rows rate their answers."""
        return self.shape is not None and self.shape.compares

    def convert(self, row: Row) -> ConvertedRow:
        """A row as a conversation.

        Raises:
            RowError: It does not have the shape.
        """
        if self.shape is None:
            raise RowError("no shape")
        if self._has_paths:
            row = open_paths(row, self.columns)
        turns = self._fast_path(row) if self._fast_path is not None else None
        return self.shape.convert(row, self.columns) if turns is None else ConvertedRow(turns)

    @cached_property
    def _has_paths(self) -> bool:
        return any("." in name for name in self.columns.values())

    @cached_property
    def _fast_path(self) -> FastPath | None:
        make_fast_path = self.shape.make_fast_path if self.shape is not None else None
        return make_fast_path(self.columns) if make_fast_path is not None else None


@dataclass(frozen=True)
class _Candidate:
    shape: Shape
    columns: Columns
    confidence: float

    def explains(self, other: _Candidate) -> bool:
        """Whether this candidate covers the other: it has a higher tier, binds all columns of the other and more, or is
        a preference whose answers continue the dialogue that is all of the other."""
        own_columns, other_columns = set(self.columns.values()), set(other.columns.values())
        ends_dialogue = self.shape.name == "preference" and set(other.columns) == {"messages"}
        return self.shape.tier > other.shape.tier or other_columns < own_columns or ends_dialogue


def is_row(value: Any) -> bool:
    """Whether an object is a row: its columns fit some shape, or any of its columns is a list of turns."""
    if not isinstance(value, dict):
        return False
    return is_nested(value) or bool(_bind_all(_select_known_columns(value))) or any(map(_is_turn_list, value.values()))


def has_prompt(value: Any) -> bool:
    """Whether an object is a row with a prompt or turns; an object with only a text may be the metadata of a file."""
    if not isinstance(value, dict):
        return False
    bound = _bind_all(_select_known_columns(value))
    return is_nested(value) or any(shape.tier == 2 for shape in bound) or any(map(_is_turn_list, value.values()))


def _select_known_columns(row: Row) -> frozenset[str]:
    return frozenset(name for name in map(fold_name, row) if name in KNOWN_COLUMNS)


def _is_turn_list(value: Any) -> bool:
    return isinstance(value, list) and find_keys(value) is not None


@lru_cache(maxsize=1024)
def _bind_all(names: frozenset[str]) -> tuple[Shape, ...]:
    return tuple(shape for shape in SHAPES if bind_columns(shape, names) is not None)


def recognise_shape(title: str, rows: Sequence[Row]) -> Recognised:
    """Recognise the shape of a source, the one with the highest confidence.

    Args:
        title: Name of the source, for messages.
        rows: Its rows; up to 500 of them, evenly spaced, are sampled.

    Raises:
        PipelineError: No shape reaches the minimum confidence, or two are ambiguous.
    """
    sample = sample_evenly(rows)
    found = weigh_shapes(sample, SHAPES)
    candidates = {c.shape.name: c.confidence for c in found}
    ranked = [c for c in found if not any(o.explains(c) for o in found if o.confidence >= MIN_CONFIDENCE)]
    if not ranked or ranked[0].confidence < MIN_CONFIDENCE:
        nearest = f"; nearest is {_list_candidates(ranked[:3])}" if ranked else ""
        raise PipelineError(
            f'source "{title}": unknown shape, columns {name_columns(sample)}{nearest}{_explain(sample)}; '
            f"{suggest_fields(sample)}; known are "
            + "; ".join(dict.fromkeys(f"{shape.name} ({shape.columns})" for shape in SHAPES if shape not in VARIANTS))
        )
    tied = [c for c in ranked if c.confidence > ranked[0].confidence - MIN_MARGIN]
    if len(tied) > 1:
        raise PipelineError(
            f'source "{title}": its rows fit {_list_candidates(tied, " and ")} alike, columns '
            f"{name_columns(sample)}, such as {show_rows(sample)}; set shape or fields"
        )
    best = ranked[0]
    return Recognised(best.shape.name, best.columns, best.confidence, candidates, best.shape)


def _explain(rows: Sequence[Row]) -> str:
    """Why the rows do not fit the shapes whose columns they have."""
    names = dict.fromkeys(column for row in rows for column in row)
    reasons: dict[str, str] = {}
    for shape in SHAPES:
        columns = bind_columns(shape, names)
        if columns is None:
            continue
        reason = _find_conversion_error(shape, rows[0], columns) or (
            shape.doubt if shape.evidence(rows, columns) < MIN_CONFIDENCE else ""
        )
        if reason and reason != OTHER_KEYS:
            reasons.setdefault(shape.name, reason)
    return "".join(f"; no {name}, since {reason}" for name, reason in list(reasons.items())[:2])


def _find_conversion_error(shape: Shape, row: Row, columns: Columns) -> str:
    try:
        shape.convert(row, columns)
    except RowError as error:
        return str(error)
    return ""


def use_shape(title: str, name: str, rows: Sequence[Row]) -> Recognised:
    """A shape named in params, with the columns bound to its roles.

    Raises:
        PipelineError: The rows lack a column for one of its roles.
    """
    shapes = [shape for shape in SHAPES if shape.name == name]
    fitting = weigh_shapes(sample_evenly(rows), shapes, empty=True)
    if not fitting:
        raise PipelineError(
            f'source "{title}": no row has the shape {name} ({" or ".join(shape.columns for shape in shapes[:2])}); '
            f"columns are {name_columns(rows)}; name them with fields, or correct shape"
        )
    return Recognised(name, fitting[0].columns, 1.0, {name: fitting[0].confidence}, fitting[0].shape)


def use_columns(title: str, columns: Columns, rows: Sequence[Row]) -> Recognised:
    """The shape with the roles of a field map, with its columns.

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
    sample = sample_evenly(opened)
    share, best = max(
        ((share_of_fits(sample, shape, columns, empty=True), shape) for shape in shapes_of_roles(columns)),
        key=lambda found: found[0],
    )
    if not share:
        raise PipelineError(
            f'source "{title}": no row has {best.columns} in the columns {sorted(columns.values())} that fields name, '
            f"such as {show_rows(sample)}; correct fields"
        )
    return Recognised(f"{best.name} (fields)", columns, 1.0, {best.name: round(share, 4)}, best)


def shapes_of_roles(roles: Collection[str]) -> list[Shape]:
    """The shapes that have all of these roles and require no other, those with the fewest optional roles first."""
    fitting = [s for s in SHAPES if set(s.required) <= set(roles) <= set(s.required) | set(s.optional)]
    return sorted(fitting, key=lambda shape: len(shape.optional))


def open_paths(row: Row, columns: Columns) -> Row:
    """The row with the values of dotted column names added, such as ``content.title`` or ``turns.0``."""
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
    """The column with the label of each row, unless the shape binds it to another role."""
    if "label" in found.columns:
        return found.columns["label"]
    names = {fold_name(name): name for name in reversed(name_columns(rows[:MAX_SAMPLE_ROWS], None))}
    for column in LABEL_COLUMNS:
        name = column if column in names.values() else names.get(column)
        if (
            name is not None
            and name not in found.columns.values()
            and any(isinstance(row.get(name), str | int) for row in rows[:MAX_SAMPLE_ROWS])
        ):
            return name
    return None


def weigh_shapes(rows: Sequence[Row], shapes: Sequence[Shape], empty: bool = False) -> list[_Candidate]:
    """The shapes that fit some row, by descending confidence, each name once; ``empty`` accepts rows with empty
    turns."""
    names = dict.fromkeys(column for row in rows for column in row)
    candidates: dict[str, _Candidate] = {}
    for shape in shapes:
        columns = bind_columns(shape, names)
        if columns is None:
            continue
        columns = {role: name for role, name in columns.items() if not _is_constant(rows, shape, role, name)}
        confidence = round(
            share_of_fits(rows, shape, columns, empty) * weigh_columns(shape, columns) * shape.evidence(rows, columns),
            4,
        )
        best_so_far = candidates.get(shape.name)
        if confidence and (best_so_far is None or confidence > best_so_far.confidence):
            candidates[shape.name] = _Candidate(shape, columns, confidence)
    return sorted(candidates.values(), key=lambda c: -c.confidence)


def _is_constant(rows: Sequence[Row], shape: Shape, role: str, name: str) -> bool:
    """Whether the column of an optional role is constant, as a column that describes the whole data set is."""
    if role in shape.required or weigh_name(shape.optional[role], name) == SPECIFIC or len(rows) < 2:
        return False
    first = rows[0].get(name)
    return isinstance(first, str) and all(row.get(name) == first for row in rows)


def share_of_fits(rows: Sequence[Row], shape: Shape, columns: Columns, empty: bool = False) -> float:
    """Share of rows that convert to a conversation; ``empty`` accepts empty turns."""
    fits = 0
    for row in rows:
        try:
            turns = shape.convert(row, columns).turns
        except RowError:
            continue
        fits += empty or all(turn["content"].strip() for turn in turns if turn["role"] in ("user", "assistant"))
    return fits / max(len(rows), 1)


def sample_evenly(rows: Sequence[Row]) -> list[Row]:
    """At most 500 rows, evenly spaced."""
    if len(rows) <= MAX_SAMPLE_ROWS:
        return list(rows)
    return [rows[number * len(rows) // MAX_SAMPLE_ROWS] for number in range(MAX_SAMPLE_ROWS)]


def _list_candidates(candidates: Sequence[_Candidate], separator: str = ", ") -> str:
    return separator.join(f"{c.shape.name} (confidence {c.confidence:.2f})" for c in candidates)


def name_columns(rows: Sequence[Row], limit: int | None = 20) -> list[str]:
    """The first 20 columns of the rows, in order of first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))[:limit]


def show_rows(rows: Sequence[Row], count: int = 3) -> str:
    """The first rows on one line, each truncated to 120 characters."""
    return " | ".join(orjson.dumps(row, default=str).decode()[:120] for row in rows[:count])
