"""ROUGE-L: how much of the reference's wording the answer keeps, in order.

C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. With the longest common
subsequence of words L, P = L / words of the answer and R = L / words of the reference, the score is
2PR / (P + R). Words are those of `tasks.corpus.text.words`, in lower case and without stemming: runs of letters and
digits, and single characters in scripts without spaces. On ASCII text they are those of the package ``rouge_score``
(the values are equal; a test holds them against it). The subsequence is found with the bit-parallel recurrence of
Hyyrö, "Bit-Parallel LCS-length Computation Revisited", 2004, which is some hundred times faster on long answers than
the dynamic-programming table.

Good for free text with a typical wording; blind to meaning and to symbols. A reference that is mainly symbols, such as
emoji or a formula, is not scored, and where most references are, the metric does not apply and guards nothing.

Example:
    "the cat sat" against "the cat sat down": L = 3, P = 1, R = 3/4, score 6/7 = 0.857; "您" against "您好": L = 1,
    P = 1, R = 1/2, score 2/3.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.corpus.text.words import find_words
from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence

# Share of a reference's characters, white space aside, that words must cover for it to be scored.
MINIMUM_COVERAGE = 0.5


class RougeL(PerAnswer):
    """ROUGE-L F-measure of the answer against the reference; higher is better."""

    name: Literal["rouge_l"] = "rouge_l"
    title: ClassVar[str] = "ROUGE-L"
    higher_is_better: ClassVar[bool] = True

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return count_unreadable(evidence)

    def reads(self, item: Item) -> bool:
        return is_readable(item.reference)

    def measure(self, item: Item, answer: str) -> float:
        return rouge_l(item.reference, answer)


def count_unreadable(evidence: Evidence) -> str | None:
    """Why ROUGE does not apply, where words do not cover most references; else None."""
    unread = sum(not is_readable(item.reference) for item in evidence.items)
    if 2 * unread < len(evidence.items):
        return None
    return f"{unread:,} of {len(evidence.items):,} references are mainly symbols, which it does not read"


def words(text: str) -> list[str]:
    """Lower-case words of any script; an underscore separates words."""
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    return find_words(plain.replace("_", " "))


def is_readable(reference: str) -> bool:
    """Whether words cover at least half of a reference."""
    visible = sum(not character.isspace() for character in unicodedata.normalize("NFC", reference))
    found = words(reference)
    return bool(found) and sum(map(len, found)) >= MINIMUM_COVERAGE * visible


def rouge_l(reference: str, answer: str) -> float:
    """ROUGE-L F-measure, 0 where either text has no words."""
    reference_words, answer_words = words(reference), words(answer)
    if not reference_words or not answer_words:
        return 0.0
    common = lcs_length(reference_words, answer_words)
    precision, recall = common / len(answer_words), common / len(reference_words)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def lcs_length(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    positions: dict[str, int] = {}
    for position, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << position
    full = (1 << len(first)) - 1
    state = full
    for word in second:
        matched = state & positions.get(word, 0)
        state = ((state + matched) | (state - matched)) & full
    return len(first) - state.bit_count()
