"""Repetition: the share of an answer's 4-grams of words that it has said before.

Welleck et al., "Neural Text Generation with Unlikelihood Training", ICLR 2020 (seq-rep-4): 1 - distinct 4-grams /
4-grams. 0 for answers of fewer than four words. Loops of a model that does not find its end approach 1.

Example:
    "a b c d a b c d a b c d": 9 4-grams, 4 distinct, 5/9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.corpus.text.words import find_units
from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item

LENGTH = 4


class AnswerRepetition(PerAnswer):
    """Share of repeated 4-grams; lower is better."""

    name: Literal["repetition"] = "repetition"
    title: ClassVar[str] = "Repetition"
    higher_is_better: ClassVar[bool] = False

    def measure(self, item: Item, answer: str) -> float:
        units = find_units(answer)
        grams = list(zip(*(units[start:] for start in range(LENGTH)), strict=False))
        return 1 - len(set(grams)) / len(grams) if grams else 0.0
