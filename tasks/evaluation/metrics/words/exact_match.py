"""Exact match: the answer is the reference.

Good for short closed answers (classes, numbers, codes); of little use for free text, where many
wordings are correct. ``form`` says what does not count: nothing (``raw``); white space and the encoding of accents
(``spaces``, NFC); or capitals, punctuation and English articles too (``normalised``, as SQuAD is scored, Rajpurkar et
al., EMNLP 2016).

Example:
    ``"Yes,  at noon\\n"`` matches ``"Yes, at noon"``; ``"yes, at noon"`` only matches it normalised.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item


class ExactMatch(PerAnswer):
    """Share of answers equal to the reference; higher is better."""

    name: Literal["exact_match"] = "exact_match"
    form: Literal["raw", "spaces", "normalised"] = Field(
        default="spaces",
        description="what counts: everything; all but white space; or words alone, without capitals and articles",
    )
    title: ClassVar[str] = "Exact match"
    higher_is_better: ClassVar[bool] = True

    def measure(self, item: Item, answer: str) -> float:
        if self.form == "raw":
            return float(answer == item.reference)
        if self.form == "normalised":
            from tasks.evaluation.metrics.words.token_f1 import find_answer_words

            return float(find_answer_words(answer) == find_answer_words(item.reference))
        return float(_split(answer) == _split(item.reference))


def _split(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()
