"""ROUGE-L: how much of the reference's wording the answer keeps, in order.

C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. With the longest common
subsequence of words L, P = L / words of the answer and R = L / words of the reference, the score is
2PR / (P + R). Words are runs of ``a-z0-9`` after lower-casing, without stemming, as in the package
``rouge_score`` (the values are equal; a test holds them against it). The subsequence is found with
the bit-parallel recurrence of Hyyrö, "Bit-Parallel LCS-length Computation Revisited", 2004, which is
some hundred times faster on long answers than the dynamic-programming table.

Good for free text with a typical wording; blind to meaning, and to scripts other than Latin, so it
does not apply where the references have no such words.

Example:
    "the cat sat" against "the cat sat down": L = 3, P = 1, R = 3/4, score 6/7 = 0.857.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome

_WORD = re.compile(r"[a-z0-9]+")


class RougeL(Section):
    """ROUGE-L F-measure of the answer against the reference; higher is better."""

    name: Literal["rouge_l"] = "rouge_l"
    title: ClassVar[str] = "ROUGE-L"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        if any(words(item.reference) for item in evidence.items):
            return None
        return "no reference has a word of Latin letters or digits"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        values = [rouge_l(item.reference, answer) for item, answer in zip(evidence.items, outcome.answers, strict=True)]
        return Scores(np.array(values), np.array([float(bool(words(i.reference))) for i in evidence.items]))


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return _WORD.findall(text.lower())


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
