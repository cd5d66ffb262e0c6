"""Words or phrases: texts that hold one of them have the label.

They are matched as whole words in any case; ``without`` names words whose presence makes the function abstain.

Example: ``{name: keywords, label: refund, words: [refund, money back], without: [no refund]}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.corpus.weak_supervision.functions.regex import matches

_WORD = re.compile(r"\w")


class Keywords(Section):
    """One label for texts with one of these words."""

    name: Literal["keywords"] = "keywords"
    title: str = Field(default="", description="its name in the tables; label and first word when empty")
    label: str = Field(min_length=1)
    words: tuple[str, ...] = Field(min_length=1, description="words or phrases, one of which is enough")
    without: tuple[str, ...] = Field(default=(), description="words or phrases none of which may be there")

    @field_validator("words", "without")
    @classmethod
    def _say_something(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word.strip() for word in words):
            raise ValueError("a word must not be empty")
        return words

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        found = matches(texts, find_words(self.words))
        barred = matches(texts, find_words(self.without)) if self.without else [False] * len(texts)
        title = self.title or f"keywords {self.label}: {self.words[0]}"
        return {title: [self.label if hit and not bar else None for hit, bar in zip(found, barred, strict=True)]}


def find_words(words: Sequence[str]) -> str:
    """An RE2 pattern of whole words or phrases."""
    # RE2 has no look-around, and its word boundary knows ASCII only.
    start, end = r"(?:^|[^\pL\pN_])", r"(?:$|[^\pL\pN_])"
    parts = []
    for word in words:
        text = r"\s+".join(re.escape(part) for part in word.split())
        stripped = word.strip()
        before = start if _WORD.match(stripped[0]) else ""
        parts.append(before + text + (end if _WORD.match(stripped[-1]) else ""))
    return "|".join(parts)
