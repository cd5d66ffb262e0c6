"""Answers that only repeat the question.

Self-Instruct drops generated rows whose output repeats the input (Wang et al. 2022,
https://arxiv.org/abs/2212.10560, 2.2). An answer repeats the user's turn before it when both hold the same words in
the same order, whatever their case and punctuation. Below ``similarity: 1.0`` a part may differ; rewriting tasks
(correct this, say it politely) then need a look at what was dropped.

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
        default=1.0, gt=0, le=1, description="from which share of words in common and in order an answer is a repeat"
    )
    min_words: int = Field(
        default=3, ge=1, description="words of the question; to a shorter one the same may be an answer"
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
        asked, answered = find_words(question), find_words(answer)
        if len(asked) < self.min_words:
            return False
        if self.similarity == 1.0:
            return asked == answered
        match = SequenceMatcher(None, asked, answered, autojunk=False)
        bounds = (match.real_quick_ratio, match.quick_ratio, match.ratio)
        return all(bound() >= self.similarity for bound in bounds)
