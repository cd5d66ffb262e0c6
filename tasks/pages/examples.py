"""Answers of two models side by side, as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tasks.pages.word_diff import Part, diff_words

Turn = tuple[str, str]


@dataclass(frozen=True)
class ShownChange:
    """One item that two models answered differently.

    Attributes:
        change: Whether the newer model's answer is better or worse.
        title: What became of its score, such as "wrong to right".
        context: What was asked, as (speaker, text).
        before: Name and answer of the older model.
        after: Name and answer of the newer model.
        others: Reference and answers of other models, as (speaker, text).
        groups: Name of a slice to the group of it that the item is in; the page can be filtered by them.
    """

    change: Literal["better", "worse"]
    title: str
    context: Sequence[Turn]
    before: Turn
    after: Turn
    others: Sequence[Turn] = ()
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[list[Part], list[Part]]:
        """Both answers in parts, marked where they differ."""
        return diff_words(self.before[1], self.after[1])

    @property
    def characters(self) -> int:
        """How much text it is."""
        turns = (*self.context, self.before, self.after, *self.others, *self.groups.items())
        return sum(len(name) + len(text) for name, text in turns)

    @property
    def group_names(self) -> list[str]:
        """The groups as the filter names them, on one line each."""
        return [" ".join(f"{name}: {group}".split()) for name, group in self.groups.items()]
