"""Exact match: the answer is the reference, white space and the encoding of accents (NFC) aside.

Good for short closed answers (classes, numbers, codes); of little use for free text, where many
wordings are correct.

Example:
    ``"Yes,  at noon\\n"`` matches ``"Yes, at noon"``; ``"yes, at noon"`` does not.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class ExactMatch(Section):
    """Share of answers equal to the reference; higher is better."""

    name: Literal["exact_match"] = "exact_match"
    title: ClassVar[str] = "Exact match"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        values = [
            float(_normalise(answer) == _normalise(item.reference))
            for item, answer in zip(evidence.items, outcome.answers, strict=True)
        ]
        return Scores(np.array(values), np.ones(len(values)))


def _normalise(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()
