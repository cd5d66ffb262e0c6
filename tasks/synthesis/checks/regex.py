"""Prompts or answers that must, or must not, match a pattern.

Example: ``{name: regex, of: answers, must: "^(yes|no)$"}``, ``{name: regex, of: prompts, must_not: "(?i)as an AI"}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class RegexCheck(RowCheck):
    """Python patterns, searched anywhere in the text."""

    name: Literal["regex"] = "regex"
    of: Literal["prompts", "answers"] = Field(default="answers", description="which text is searched")
    must: str | None = Field(default=None, description="pattern that must match")
    must_not: str | None = Field(default=None, description="pattern that must not match")

    @field_validator("must", "must_not")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"invalid pattern ({error}); correct it") from error
        return pattern

    @model_validator(mode="after")
    def _looks_for_something(self) -> RegexCheck:
        if self.must is None and self.must_not is None:
            raise ValueError("give must, must_not or both")
        return self

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("instructions",) if self.of == "prompts" else ("answers",)

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        texts = [draft.instruction if self.of == "prompts" else draft.answer for draft in drafts]
        return [self._judge(text) for text in texts]

    def _judge(self, text: str) -> str | None:
        if self.must is not None and not re.search(self.must, text):
            return f"no match for {self.must}"
        if self.must_not is not None and re.search(self.must_not, text):
            return f"matches {self.must_not}"
        return None
