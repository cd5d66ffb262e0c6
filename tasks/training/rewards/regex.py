"""1 where the answer matches a pattern, or does not match another, else 0.

Patterns are Python's and searched anywhere in the answer; ``^`` and ``$`` bind them to its ends. One that looks through
an answer for longer than a second stops the run: an answer is not worth 0 because its pattern cannot be tried.

Example: ``{name: regex, must: "^(yes|no)$"}``, ``{name: regex, must_not: "(?i)as an AI", weight: 0.5}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.training.rewards.reward import BINARY, AnswerAttempt, Bounds, Reference, Scorer, weight_field

TIMEOUT_S = 1.0


class RegexReward(Section):
    """Reward answers by a pattern."""

    name: Literal["regex"] = "regex"
    weight: float = weight_field()
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
    def _looks_for_something(self) -> RegexReward:
        if self.must is None and self.must_not is None:
            raise ValueError("give must, must_not or both")
        return self

    @property
    def needs(self) -> tuple[Reference, ...]:
        return ()

    @property
    def bounds(self) -> Bounds:
        return BINARY

    def problems(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return []

    def describe(self) -> str:
        parts = [f"matching {self.must}"] if self.must is not None else []
        return " and ".join(parts + ([f"not matching {self.must_not}"] if self.must_not is not None else []))

    def open(self, cache: Path | None) -> Scorer:
        return self._score

    def _score(self, attempts: Sequence[AnswerAttempt]) -> list[float]:
        return [float(self._matches(attempt)) for attempt in attempts]

    def _matches(self, attempt: AnswerAttempt) -> bool:
        if self.must is not None and not _is_in(self.must, attempt):
            return False
        return self.must_not is None or not _is_in(self.must_not, attempt)


def _is_in(pattern: str, attempt: AnswerAttempt) -> bool:
    try:
        return _compile(pattern).search(attempt.answer, timeout=TIMEOUT_S) is not None
    except TimeoutError as error:
        raise PipelineError(
            f"reward regex: the pattern {pattern!r} looks for longer than {TIMEOUT_S:g} s through an answer of "
            f"{len(attempt.answer):,} characters to row {attempt.row}; write it without repetitions of repetitions"
        ) from error


@cache
def _compile(pattern: str) -> Any:
    import regex

    return regex.compile(pattern)
