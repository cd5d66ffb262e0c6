"""Answers that only repeat the question.

Self-Instruct drops generated rows whose output repeats the input (Wang et al. 2022,
https://arxiv.org/abs/2212.10560, 2.2). An answer repeats the preceding user turn when both have the same text,
ignoring case, spaces and sentence punctuation. Below ``similarity: 1.0`` some words may differ; check the dropped rows
of rewriting tasks then (correct this, say it politely). Long turns must have so many words in common and be as similar
in their first 1,000 words.

Example:
    ``Where is my order?`` answered by ``Where is my order`` drops the row as "answer repeats the question".
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.words import find_words, word_pattern

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

# Words of each turn that are compared in order below `similarity` 1; the time grows by their square.
MAX_WORDS = 1000


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
        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.texts import Cleaned

        return Cleaned(table, [self._judge(turns) for turns in learned_messages(table).to_pylist()])

    def _judge(self, turns: list[dict[str, Any]]) -> str | None:
        for before, turn in pairwise(turns):
            if (before["role"], turn["role"]) != ("user", "assistant"):
                continue
            if self.repeats(before["content"], turn["content"]):
                return "answer repeats the question"
        return None

    def repeats(self, question: str, answer: str) -> bool:
        """Whether an answer only repeats its question."""
        from tasks.corpus.text.folds import fold_prompt

        if len(find_words(question)) < self.min_words:
            return False
        if self.similarity == 1.0:
            return fold_prompt(question) == fold_prompt(answer)
        question_words, answer_words = (_compile_unit().findall(text.casefold()) for text in (question, answer))
        total = len(question_words) + len(answer_words)
        if 2 * (Counter(question_words) & Counter(answer_words)).total() < self.similarity * total:
            return False
        match = SequenceMatcher(None, question_words[:MAX_WORDS], answer_words[:MAX_WORDS], autojunk=False)
        return match.ratio() >= self.similarity


@cache
def _compile_unit() -> re.Pattern[str]:
    """A word, or a sign other than sentence punctuation and quotes: ``a + b`` is not ``a - b``."""
    return re.compile(rf"{word_pattern()}|[^\w\s.,!?;:'\"“”‘’…]")
