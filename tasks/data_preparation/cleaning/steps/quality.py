"""Drops text that is not prose by the quality rules of MassiveText for Gopher.

Rae et al. 2021, https://arxiv.org/abs/2112.11446, A.1.1. They were made for English web pages.

Good for: documents (plain text, web pages): 3 of 500 posts of digital.gov are dropped. For dialogues lower
``min_words``: of 500 rows the defaults drop 67% of Dolly, 42% of hh-rlhf and all of Bitext, ``of: conversation,
min_words: 5`` 7% of hh-rlhf and 2% of Bitext, but 30% of Dolly for the ``###`` of its prompts. Code and tables fail
these rules.

Example:
    ``{name: quality, of: conversation, min_words: 5}`` drops ``1234 5678 and 99 100 or 200`` as "few words with
    letters".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.rows.roles import Of

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})

_BULLETS = ("•", "‣", "▪", "●", "◦", "*", "-", "–")
_ELLIPSIS = re.compile(r"\.\.\.|…")


class Quality(Section):
    """Drops rows that break one of Gopher's quality rules."""

    name: Literal["quality"] = "quality"
    of: Of = Field(default="answers", description="which turns are checked")
    min_words: int = Field(default=50, ge=0, description="minimum words")
    max_words: int = Field(default=100_000, gt=0, description="maximum words")
    min_word_length: float = Field(default=3, ge=0, description="minimum mean length of a word, characters")
    max_word_length: float = Field(default=10, gt=0, description="maximum mean length of a word, characters")
    max_symbols: float = Field(default=0.1, ge=0, description="maximum # signs, and maximum ellipses, per word")
    max_bullet_lines: float = Field(
        default=0.9, ge=0, le=1, description="maximum share of lines that start with a bullet"
    )
    max_ellipsis_lines: float = Field(
        default=0.3, ge=0, le=1, description="maximum share of lines that end in an ellipsis"
    )
    min_words_with_letters: float = Field(default=0.8, ge=0, le=1, description="minimum share of words with a letter")
    min_stop_words: int = Field(
        default=2,
        ge=0,
        le=len(STOP_WORDS),
        description="minimum number of different words of: " + ", ".join(sorted(STOP_WORDS)),
    )

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import judge_texts

        return judge_texts(table, self.of, self.judge)

    def judge(self, text: str) -> str | None:
        """The reason to drop a text; None to keep it."""
        words = text.split()
        count = len(words)
        if count < self.min_words:
            return f"fewer than {self.min_words} words"
        if count > self.max_words:
            return f"more than {self.max_words} words"
        if not words:
            return None
        mean = sum(map(len, words)) / count
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        ellipses = len(_ELLIPSIS.findall(text))
        lettered = _share(any(map(str.isalpha, word)) for word in words)
        rules = (
            (mean < self.min_word_length, f"words shorter than {self.min_word_length:g} characters on average"),
            (mean > self.max_word_length, f"words longer than {self.max_word_length:g} characters on average"),
            (text.count("#") / count > self.max_symbols, f"more than {self.max_symbols:g} # signs per word"),
            (ellipses / count > self.max_symbols, f"more than {self.max_symbols:g} ellipses per word"),
            (_share(line.startswith(_BULLETS) for line in lines) > self.max_bullet_lines, "almost only bullet points"),
            (_share(line.endswith(("...", "…")) for line in lines) > self.max_ellipsis_lines, "many lines end in ..."),
            (lettered < self.min_words_with_letters, "few words with letters"),
            (
                len(STOP_WORDS & {word.strip(".,;:!?\"'()").casefold() for word in words}) < self.min_stop_words,
                f"fewer than {self.min_stop_words} of the usual English words",
            ),
        )
        return next((reason for violated, reason in rules if violated), None)


def _share(answers: Iterable[bool]) -> float:
    each = list(answers)
    return sum(each) / len(each)
