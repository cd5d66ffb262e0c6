"""What a search varies: keys of params, each with a list of values or a range.

A sampler works on labels: the text of a listed value as JSON, so that whole sections can be values, and the number
itself for a range.

Example:
    ``{training_setup.learning_rate: {log: [1.0e-4, 1.0e-2]}, training_setup.method: [{name: full}, {name: lora}]}``
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tasks.contracts.params import Section

Label = str | float | int
Labels = dict[str, Label]
# Of a drawn number; more would be noise in a file of params.
DIGITS = 4
# An integer range with more values is no grid by itself.
MOST_POINTS = 1000


class Range(Section):
    """Numbers between two bounds; one of ``log``, ``linear`` and ``integers``."""

    log: tuple[float, float] | None = Field(
        default=None, description="lowest and highest number, drawn evenly over the logarithm"
    )
    linear: tuple[float, float] | None = Field(default=None, description="lowest and highest number")
    integers: tuple[int, int] | None = Field(default=None, description="lowest and highest whole number")
    points: int | None = Field(default=None, ge=2, description="how many values of it method grid takes")

    @model_validator(mode="after")
    def _is_one_range(self) -> Self:
        given = [name for name in ("log", "linear", "integers") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"found {found}; expected one of log, linear, integers: {{log: [1.0e-4, 1.0e-2]}}")
        if not self.low < self.high:
            raise ValueError(f"found {given[0]}: [{self.low}, {self.high}]; expected the lower number first")
        if self.log and self.low <= 0:
            raise ValueError(f"found log: [{self.low}, {self.high}]; expected numbers above 0")
        return self

    @property
    def low(self) -> float:
        return self._bounds[0]

    @property
    def high(self) -> float:
        return self._bounds[1]

    @property
    def _bounds(self) -> tuple[float, float]:
        bounds = self.log or self.linear or self.integers
        assert bounds is not None
        return bounds


def _kind(dimension: Any) -> str:
    return "values" if isinstance(dimension, list) else "range"


Dimension = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("values")] | Annotated[Range, Tag("range")], Discriminator(_kind)
]


def to_label(value: Any) -> str:
    """The label of a listed value."""
    return json.dumps(value, sort_keys=True)


def to_value(dimension: list[Any] | Range, label: Label) -> Any:
    """The value of a label, as params take it: a number of a range with four significant digits."""
    if isinstance(dimension, list):
        return json.loads(str(label))
    if dimension.integers:
        return int(label)
    rounded = float(f"{float(label):.{DIGITS}g}")
    return min(max(rounded, dimension.low), dimension.high)


def list_points(dimension: list[Any] | Range) -> list[Label] | None:
    """The labels of which a grid is made; None for a range that does not say how many."""
    if isinstance(dimension, list):
        return list(dict.fromkeys(to_label(value) for value in dimension))
    low, high, points = dimension.low, dimension.high, dimension.points
    if dimension.integers and points is None:
        return list(range(int(low), int(high) + 1)) if high - low < MOST_POINTS else None
    if points is None:
        return None
    shares = [number / (points - 1) for number in range(1, points - 1)]
    if dimension.log:
        between = [math.exp(math.log(low) + share * (math.log(high) - math.log(low))) for share in shares]
    else:
        between = [low + share * (high - low) for share in shares]
    spaced = [low, *between, high]  # the ends as they stand: what rounding puts beyond them is no value of the range
    return list(dict.fromkeys(round(number) for number in spaced)) if dimension.integers else list(spaced)


def list_ends(dimension: list[Any] | Range) -> list[Label]:
    """Labels that stand for all: every listed value, the bounds of a range."""
    if isinstance(dimension, list):
        return list(dict.fromkeys(to_label(value) for value in dimension))
    return [int(dimension.low), int(dimension.high)] if dimension.integers else [dimension.low, dimension.high]


def distributions(space: Mapping[str, list[Any] | Range]) -> dict[str, Any]:
    """The space in the terms of optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for key, dimension in space.items():
        if isinstance(dimension, list):
            found[key] = CategoricalDistribution(list_ends(dimension))
        elif dimension.integers:
            found[key] = IntDistribution(*dimension.integers)
        else:
            found[key] = FloatDistribution(dimension.low, dimension.high, log=dimension.log is not None)
    return found


def list_changes(space: Mapping[str, list[Any] | Range], labels: Labels) -> dict[str, Any]:
    """What a combination of labels changes, key by key, as ``-S`` takes it.

    A ``name`` takes its choice with the defaults of that: the key of the section stands for it, and keys below it are
    part of its value.

    Example:
        ``{a.optimizer.name: sgd, a.optimizer.momentum: 0.5}`` is ``{a.optimizer: {name: sgd, momentum: 0.5}}``.
    """
    changes: dict[str, Any] = {}
    for key in sorted(space, key=lambda key: (key.count("."), not key.endswith(".name"), key)):
        value = to_value(space[key], labels[key])
        section, _, last = key.rpartition(".")
        above = next((place for place in changes if key.startswith(f"{place}.")), None)
        if above is not None and isinstance(changes[above], dict):
            changes[above] = _with(changes[above], key.removeprefix(f"{above}.").split("."), value)
        elif last == "name":
            changes[section] = {"name": value}
        else:
            changes[key] = value
    return changes


def _with(section: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """A copy of a section with another value at a place."""
    inner = section.get(keys[0])
    return {
        **section,
        keys[0]: _with(inner if isinstance(inner, dict) else {}, keys[1:], value) if len(keys) > 1 else value,
    }
