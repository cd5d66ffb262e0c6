"""Token F1: the words that answer and reference share, in any order.

Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016. With c words in common
(each as often as in both), P = c / words of the answer and R = c / words of the reference, the score is
2PR / (P + R). Capitals, punctuation and the English articles do not count; in scripts without spaces each character is
a word. On ASCII text the values are those of SQuAD's script.

Good for short answers in free wording, such as extracted spans.

Example:
    "in the garden" against "The old garden": words in, garden and old, garden; c = 1, P = R = 1/2, score 1/2.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.corpus.text.words import find_words
from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence

ARTICLES = frozenset(("a", "an", "the"))
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TokenF1(PerAnswer):
    """F1 of the words of the answer against those of the reference; higher is better."""

    name: Literal["token_f1"] = "token_f1"
    title: ClassVar[str] = "Token F1"
    higher_is_better: ClassVar[bool] = True

    def reads(self, item: Item) -> bool:
        return bool(find_answer_words(item.reference))

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None if any(map(self.reads, evidence.items)) else "no reference has words"

    def measure(self, item: Item, answer: str) -> float:
        return token_f1(answer, item.reference)


def token_f1(first: str, second: str) -> float:
    """F1 of the words of two texts; 0 where one has none."""
    found, expected = find_answer_words(first), find_answer_words(second)
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / (len(found) + len(expected)) if common else 0.0


def find_answer_words(text: str) -> list[str]:
    """Words without capitals, punctuation and English articles."""
    plain = unicodedata.normalize("NFC", text).lower().translate(_WITHOUT_PUNCTUATION)
    words = plain.split() if plain.isascii() else find_words(plain)
    return [word for word in words if word not in ARTICLES]
