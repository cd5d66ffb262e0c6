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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.rows.roles import Of
from tasks.corpus.text.words import is_unspaced, split_words

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

    Array = np.ndarray[Any, np.dtype[np.int64]]

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
        ngrams = Ngrams(words)
        for size, limit in sorted(self.top_ngrams.items()):
            if ngrams.top_share(size * length) > limit:
                return f"most frequent {size}-gram over {limit:.0%}"
        for size, limit in sorted(self.repeated_ngrams.items()):
            if ngrams.repeated_share(size * length) > limit:
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


class Ngrams:
    """The n-grams of a text as numbers, equal ones with equal numbers, in memory of some 50 bytes a word."""

    def __init__(self, words: Sequence[str]) -> None:
        import numpy as np
        import pyarrow as pa

        numbers = pa.array(words, pa.large_string()).dictionary_encode().indices
        self._numbers: dict[int, Array] = {1: np.asarray(numbers).astype(np.int64)}
        self._ends: Array = np.cumsum([0, *map(len, words)])

    def number(self, size: int) -> Array:
        """The number of the n-gram of this size that begins at each word."""
        import numpy as np

        if size in self._numbers:
            return self._numbers[size]
        # Two n-grams that overlap, or stand side by side, make the longer one.
        part = 1 << (size - 1).bit_length() - 1
        first = self.number(part)
        second = first[size - part :]
        first = first[: len(second)]
        pairs = first * (int(first.max(initial=0)) + int(second.max(initial=0)) + 1) + second
        numbers: Array = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        if size & (size - 1) == 0:
            self._numbers[size] = numbers
        return numbers

    def top_share(self, size: int) -> float:
        """Share of the words' characters covered by the most frequent n-gram, if it occurs more than once."""
        import numpy as np

        numbers = self.number(size)
        counts = np.bincount(numbers)[numbers]
        lengths = self._ends[size:] - self._ends[:-size]
        covered = (counts * lengths)[counts > 1].max(initial=0)
        return min(1.0, float(covered / max(self._ends[-1], 1)))

    def repeated_share(self, size: int) -> float:
        """Share of the words' characters that lie in n-grams that occur more than once."""
        import numpy as np

        numbers = self.number(size)
        starts = np.flatnonzero(np.bincount(numbers)[numbers] > 1)
        # Overlapping n-grams count once: each adds what the one before does not reach.
        begins = self._ends[starts]
        ends = self._ends[starts + size]
        begins[1:] = np.maximum(begins[1:], ends[:-1])
        return float((ends - begins).sum() / max(self._ends[-1], 1))
