"""Drops text with repeated lines, paragraphs and n-grams.

Thresholds are those of MassiveText for Gopher (Rae et al. 2021, https://arxiv.org/abs/2112.11446, table A1). They are
shares: of lines and paragraphs that occurred before in the same text (by number and by characters), of the characters
covered by the most frequent 2-, 3- and 4-gram, and of those in 5- to 10-grams that occur more than once, each
character counted once. In scripts written without spaces two characters count as a word. Gopher kept documents of 50
words or more, and on shorter ones the shares of n-grams mean little, so shorter texts are not checked.

Good for: scraped pages, and generated answers that degenerated into a loop.

Example:
    An answer of 60 words that says "please try again" twenty times is dropped: "most frequent 3-gram over 18%".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.rows.roles import Of
from tasks.corpus.text.words import is_unspaced, split_words

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

_PARAGRAPHS = re.compile(r"\n\s*\n")

Share = dict[int, float]


class Repetition(Section):
    """Drops rows whose text repeats itself."""

    name: Literal["repetition"] = "repetition"
    of: Of = Field(default="answers", description="which turns are checked")
    min_words: int = Field(default=50, ge=1, description="minimum words; shorter texts are kept")
    lines: float = Field(default=0.30, ge=0, le=1, description="maximum share of the lines that occurred before")
    line_characters: float = Field(default=0.20, ge=0, le=1, description="the same by characters")
    paragraphs: float = Field(
        default=0.30, ge=0, le=1, description="maximum share of the paragraphs that occurred before"
    )
    paragraph_characters: float = Field(default=0.20, ge=0, le=1, description="the same by characters")
    top_ngrams: Share = Field(
        default={2: 0.20, 3: 0.18, 4: 0.16},
        description="n to the maximum share of the characters in the most frequent n-gram",
    )
    repeated_ngrams: Share = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description="n to the maximum share of the characters in n-grams that occur more than once",
    )

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import judge_texts

        return judge_texts(table, self.of, self.judge)

    def judge(self, text: str) -> str | None:
        """The reason to drop a text; None to keep it."""
        words = split_words(text)
        # A Chinese word has about 1.7 characters, so two characters count as one word.
        length = 2 if is_unspaced(text) else 1
        if len(words) < self.min_words * length:
            return None
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        parts = [part.strip() for part in _PARAGRAPHS.split(text) if part.strip()]
        for found, limit, what in (
            (repeated_share(lines), self.lines, "lines"),
            (repeated_share(lines, by_characters=True), self.line_characters, "lines by characters"),
            (repeated_share(parts), self.paragraphs, "paragraphs"),
            (repeated_share(parts, by_characters=True), self.paragraph_characters, "paragraphs by characters"),
        ):
            if found > limit:
                return f"repeated {what} over {limit:.0%}"
        for size, limit in sorted(self.top_ngrams.items()):
            if top_ngram_share(words, size * length) > limit:
                return f"most frequent {size}-gram over {limit:.0%}"
        for size, limit in sorted(self.repeated_ngrams.items()):
            if repeated_ngram_share(words, size * length) > limit:
                return f"repeated {size}-grams over {limit:.0%}"
        return None


def repeated_share(parts: Sequence[str], by_characters: bool = False) -> float:
    """Share of the parts that are the same as an earlier one, by number or by characters."""
    weight = [len(part) if by_characters else 1 for part in parts]
    seen: set[str] = set()
    repeated = 0
    for part, value in zip(parts, weight, strict=True):
        if part in seen:
            repeated += value
        seen.add(part)
    return repeated / max(sum(weight), 1)


def top_ngram_share(words: Sequence[str], size: int) -> float:
    """Share of the words' characters covered by the most frequent n-gram, if it occurs more than once."""
    counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
    covered = max((count * sum(map(len, ngram)) for ngram, count in counts.items() if count > 1), default=0)
    return min(1.0, covered / max(sum(map(len, words)), 1))


def repeated_ngram_share(words: Sequence[str], size: int) -> float:
    """Share of the words' characters that lie in n-grams that occur more than once."""
    ngrams = list(zip(*(words[start:] for start in range(size)), strict=False))
    counts = Counter(ngrams)
    inside = [False] * len(words)
    for start, ngram in enumerate(ngrams):
        if counts[ngram] > 1:
            inside[start : start + size] = [True] * size
    covered = sum(len(word) for word, repeated in zip(words, inside, strict=True) if repeated)
    return covered / max(sum(map(len, words)), 1)
