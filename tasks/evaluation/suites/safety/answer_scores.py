"""How right an answer to one of the run's own items is, for suites that change what is asked."""

from __future__ import annotations

from typing import Literal

AnswerScore = Literal["token_f1", "exact_match"]


def score_answer(score: AnswerScore, reference: str, answer: str) -> float:
    """Between 0 and 1, by the metric of that name."""
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.words.exact_match import ExactMatch
    from tasks.evaluation.metrics.words.token_f1 import TokenF1

    metric = TokenF1() if score == "token_f1" else ExactMatch()
    return metric.measure(Item("", "", None, "", (), reference), answer)
