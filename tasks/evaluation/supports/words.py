"""Support by words: the text has most of the words of the claim, whatever it says with them.

The share of the claim's words that the text has, each as often as there (the recall of ROUGE-1, Lin 2004; capitals and
punctuation do not count), against ``least``. Needs no model and can be followed by hand; blind to negation, order and
paraphrase: "is not open" is supported by "is open" where the rest agrees.

Example:
    "The shop is open on Mondays." and the claim "Our shop opens Mondays": shop and mondays of four words, 1/2, which is
    below 0.7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.words import find_words
from tasks.evaluation.supports.support import TextAndClaim


class WordSupport(Section):
    """Most of the claim's words are in the text."""

    name: Literal["words"] = "words"
    least: float = Field(default=0.7, gt=0, le=1, description="share of the claim's words that the text must have")
    reads_context: ClassVar[bool] = False

    def find(self, questions: Sequence[TextAndClaim], folder: Path | None) -> list[bool]:
        return [measure_overlap(text, claim) >= self.least for text, claim in questions]


def measure_overlap(text: str, claim: str) -> float:
    """Share of the claim's words that the text has; 0 of a claim without words."""
    wanted = Counter(find_words(claim))
    return (wanted & Counter(find_words(text))).total() / wanted.total() if wanted else 0.0
