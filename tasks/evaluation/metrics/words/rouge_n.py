"""ROUGE-1 and ROUGE-2: how many words, or pairs of neighbouring words, answer and reference share.

C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. With c n-grams in common (each as often as
in both), P = c / n-grams of the answer and R = c / n-grams of the reference, the score is 2PR / (P + R). Words are
those of `tasks.evaluation.metrics.words.rouge_l`, and so are the references that are not scored.

Example:
    "the cat sat" against "the cat sat down": 3 of 3 and 3 of 4 words, ROUGE-1 6/7; 2 of 2 and 2 of 3 pairs, ROUGE-2
    4/5.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.evaluation.metrics.per_answer import PerAnswer
from tasks.evaluation.metrics.words.rouge_l import count_unreadable, is_readable, words

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence


class _RougeN(PerAnswer):
    length: ClassVar[int]
    higher_is_better: ClassVar[bool] = True

    def reads(self, item: Item) -> bool:
        return is_readable(item.reference)

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return count_unreadable(evidence)

    def measure(self, item: Item, answer: str) -> float:
        return rouge_n(item.reference, answer, self.length)


class Rouge1(_RougeN):
    """F-measure of the words; higher is better."""

    name: Literal["rouge_1"] = "rouge_1"
    title: ClassVar[str] = "ROUGE-1"
    length: ClassVar[int] = 1


class Rouge2(_RougeN):
    """F-measure of the pairs of neighbouring words; higher is better."""

    name: Literal["rouge_2"] = "rouge_2"
    title: ClassVar[str] = "ROUGE-2"
    length: ClassVar[int] = 2


def rouge_n(reference: str, answer: str, length: int) -> float:
    """ROUGE-N F-measure; 0 where either text has no n-gram."""
    expected, found = (_count_grams(words(text), length) for text in (reference, answer))
    common = (expected & found).total()
    return 2 * common / (expected.total() + found.total()) if common else 0.0


def _count_grams(tokens: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(length)), strict=False))
