"""1 where the answer matches a pattern, or does not match another, else 0.

Patterns are Python's and searched anywhere in the answer; ``^`` and ``$`` bind them to its ends.

Example: ``{name: regex, must: "^(yes|no)$"}``, ``{name: regex, must_not: "(?i)as an AI", weight: 0.5}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.contracts.params import Section
from tasks.training.rewards.reward import BINARY, Attempt, Bounds, Reference, Scorer, weight_field


class RegexMatch(Section):
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
    def _looks_for_something(self) -> RegexMatch:
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

    def _score(self, attempts: Sequence[Attempt]) -> list[float]:
        return [float(self._matches(attempt.answer)) for attempt in attempts]

    def _matches(self, answer: str) -> bool:
        if self.must is not None and not re.search(self.must, answer):
            return False
        return self.must_not is None or not re.search(self.must_not, answer)
