"""Answers that only repeat the question.

Self-Instruct drops generated rows whose output repeats the input (Wang et al. 2022,
https://arxiv.org/abs/2212.10560, 2.2). An answer repeats the preceding user turn when both have the same words in
the same order, ignoring case and punctuation. Below ``similarity: 1.0`` some words may differ; check the dropped rows
of rewriting tasks then (correct this, say it politely).

Example:
    ``Where is my order?`` answered by ``Where is my order`` drops the row as "answer repeats the question".
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.words import find_words

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned


class Echo(Section):
    """Drops rows with an answer that repeats its question."""

    name: Literal["echo"] = "echo"
    similarity: float = Field(
        default=1.0, gt=0, le=1, description="smallest share of common words, in order, at which an answer is a repeat"
    )
    min_words: int = Field(
        default=3, ge=1, description="minimum words of the question; a shorter one may be its own answer"
    )

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import Cleaned

        return Cleaned(table, [self._judge(turns) for turns in table["messages"].to_pylist()])

    def _judge(self, turns: list[dict[str, Any]]) -> str | None:
        for before, turn in pairwise(turns):
            if (before["role"], turn["role"]) != ("user", "assistant"):
                continue
            if self.repeats(before["content"], turn["content"]):
                return "answer repeats the question"
        return None

    def repeats(self, question: str, answer: str) -> bool:
        """Whether an answer only repeats its question."""
        question_words, answer_words = find_words(question), find_words(answer)
        if len(question_words) < self.min_words:
            return False
        if self.similarity == 1.0:
            return question_words == answer_words
        match = SequenceMatcher(None, question_words, answer_words, autojunk=False)
        bounds = (match.real_quick_ratio, match.quick_ratio, match.ratio)
        return all(bound() >= self.similarity for bound in bounds)
