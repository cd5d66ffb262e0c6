"""Answer length: how many words the answers have.

Words as in `tasks.corpus.text.words`, so that a character of a script without spaces is one. It says nothing of
quality; longer answers cost more to generate and to read, and judges tend to prefer them (Dubois et al.,
arXiv:2404.04475), so it stands best beside a metric of quality. `length_deviation` compares it with the references.

Example:
    "Your parcel is on its way." and "Yes.": (6 + 1) / 2 = 3.5 words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.corpus.text.words import find_units
from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item


class AnswerLength(PerAnswer):
    """Mean words of an answer; fewer are cheaper, so lower counts as better."""

    name: Literal["answer_length"] = "answer_length"
    title: ClassVar[str] = "Answer length"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    def measure(self, item: Item, answer: str) -> float:
        return float(len(find_units(answer)))
