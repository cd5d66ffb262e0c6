"""Keywords: texts that contain one of the words or phrases get the label.

Matching is by whole words, in scripts without spaces by characters, and ignores case; a word of ``without`` makes the
function abstain.

Example: ``{name: keywords, label: refund, words: [refund, money back], without: [no refund]}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.corpus.text.words import find_word_edges
from tasks.corpus.weak_supervision.functions.regex import match_pattern


class Keywords(Section):
    """One label for texts that contain one of the words."""

    name: Literal["keywords"] = "keywords"
    title: str = Field(default="", description="its name in the tables; label and first word when empty")
    label: str = Field(min_length=1)
    words: tuple[str, ...] = Field(min_length=1, description="words or phrases; one match is enough")
    without: tuple[str, ...] = Field(default=(), description="words or phrases that make it abstain")

    @field_validator("words", "without")
    @classmethod
    def _check_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word.strip() for word in words):
            raise ValueError("a word must not be empty")
        return words

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        found = match_pattern(texts, build_pattern(self.words))
        excluded = match_pattern(texts, build_pattern(self.without)) if self.without else [False] * len(texts)
        title = self.title or f"keywords {self.label}: {self.words[0]}"
        return {
            title: [
                self.label if is_match and not is_excluded else None
                for is_match, is_excluded in zip(found, excluded, strict=True)
            ]
        }


def build_pattern(words: Sequence[str]) -> str:
    """RE2 pattern that matches any of the words or phrases as a whole."""
    # RE2 has no look-around, and its word boundary handles ASCII only.
    word_start, word_end = r"(?:^|[^\pL\pM\pN_])", r"(?:$|[^\pL\pM\pN_])"
    patterns = []
    for word in words:
        pattern = r"\s+".join(re.escape(token) for token in word.split())
        starts, ends = find_word_edges(word.strip())
        patterns.append((word_start if starts else "") + pattern + (word_end if ends else ""))
    return "|".join(patterns)
