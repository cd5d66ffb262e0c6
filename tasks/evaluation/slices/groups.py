"""What the held-out items are grouped by: source, label, length, language, or a column of the data.

A column is one that no shape uses and that a source keeps (``keep: [region]``), by its name in ``extra.parquet``.
Columns of more than `MOST_NUMBERS` different numbers, and lengths, are cut at their quartiles; of other columns with
many values the `MOST_GROUPS` most frequent are groups and the rest is one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.corpus.text.languages import detect_languages
from tasks.corpus.text.words import find_words
from tasks.evaluation.items import Item
from tasks.evaluation.slices.names import BUILT_IN, LANGUAGE, LENGTH
from tasks.pages.text import show_score

MOST_GROUPS = 40
MOST_NUMBERS = 8
OTHER = "(other)"
LONGEST_NAME = 60


@dataclass(frozen=True)
class Grouping:
    """The groups of the items by one of their properties.

    Attributes:
        name: The property: one of `BUILT_IN`, or a column.
        groups: Group of each item; None for an item without the property.
    """

    name: str
    groups: tuple[str | None, ...]


@dataclass(frozen=True)
class Groupings:
    """All groupings.

    Attributes:
        found: Those that have a group.
        missing: Property to why there is no grouping by it.
    """

    found: tuple[Grouping, ...]
    missing: dict[str, str]

    @property
    def figures(self) -> dict[str, int]:
        return {f"groups_by_{one.name}": len(set(one.groups) - {None}) for one in self.found}

    def of_item(self, place: int) -> dict[str, str]:
        """The groups of an item, by property."""
        return {one.name: group for one in self.found if (group := one.groups[place]) is not None}


def group_items(items: Sequence[Item], names: Sequence[str], extra: Path | None = None) -> Groupings:
    """Group the items.

    Args:
        items: The held-out items.
        names: Properties to group by.
        extra: The kept columns, as data preparation writes them.

    Raises:
        PipelineError: No source keeps a column of one of the names.
    """
    columns = _read_columns(extra, {item.id for item in items}) if set(names) - set(BUILT_IN) else {}
    unknown = [name for name in names if name not in BUILT_IN and name not in columns]
    if unknown:
        raise PipelineError(
            f"evaluation.slices: {', '.join(unknown)} is no kept column of the held-out items; expected some of "
            f"{', '.join((*BUILT_IN, *sorted(columns)))}; set keep: [{unknown[0]}] on the source in "
            "data_preparation.sources, or remove it"
        )
    found: list[Grouping] = []
    missing: dict[str, str] = {}
    for name in names:
        if name == LANGUAGE:
            languages = detect_languages([_question(item) or item.reference for item in items])
            if languages is None:
                missing[name] = "lingua is not installed (pip install 'heptune[language]')"
                continue
            groups = languages
        elif name == LENGTH:
            groups = _cut([len(find_words(_question(item) or item.reference)) for item in items], " words")
        elif name in columns:
            groups = group_values([columns[name].get(item.id) for item in items])
        else:
            groups = group_values([getattr(item, name) for item in items])
        if any(group is not None for group in groups):
            found.append(Grouping(name, tuple(groups)))
        else:
            missing[name] = f"no item has a {name}" if name in BUILT_IN else "no item has a value"
    return Groupings(tuple(found), missing)


def group_values(values: Sequence[Any]) -> list[str | None]:
    """The group of each value, see the top of this file."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    present = [value for value in values if value is not None and value != ""]
    if numbers and len(numbers) == len(present) and len(set(numbers)) > MOST_NUMBERS:
        return _cut([value if isinstance(value, int | float) else None for value in values])
    names = [None if value is None or value == "" else _name(value) for value in values]
    counts = Counter(name for name in names if name is not None)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    kept = set(ranked[:MOST_GROUPS])
    return [None if name is None else name if name in kept else OTHER for name in names]


def _cut(values: Sequence[float | None], unit: str = "") -> list[str | None]:
    """Values by quartile, each named after the smallest and the largest value in it."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return [None] * len(values)
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="higher"))
    bins = np.searchsorted(edges, known, side="left")
    names = {}
    for number in np.unique(bins):
        low, high = known[bins == number].min(), known[bins == number].max()
        ends = [f"{end:,.0f}" if float(end).is_integer() else show_score(float(end)) for end in (low, high)]
        names[int(number)] = ends[0] + unit if low == high else f"{ends[0]} to {ends[1]}{unit}"
    places = [None if v is None or not np.isfinite(v) else int(np.searchsorted(edges, v, side="left")) for v in values]
    return [None if place is None else names[place] for place in places]


def _name(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text[: 4 * LONGEST_NAME].split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def _question(item: Item) -> str:
    """The last turn before the answer; empty for a document."""
    return item.prompt[-1]["content"] if item.prompt else ""


def _read_columns(path: Path | None, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Column to the values of the wanted rows, by id."""
    if path is None or not path.is_file():
        return {}
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["id", "extra"], filters=[("id", "in", wanted)])
    columns: dict[str, dict[str, Any]] = {}
    for identity, text in zip(*(table[name].to_pylist() for name in ("id", "extra")), strict=True):
        for name, value in (json.loads(text) if text else {}).items():
            columns.setdefault(name, {}).setdefault(identity, value)
    return columns
