"""1 for an answer between two lengths, falling linearly to 0 outside.

Good against answers that grow or shrink while another reward is learned. ``unit`` is what is counted; tokens are those
that the model wrote, its end included.

Example: ``{name: length, at_least: 5, at_most: 60, slack: 20}`` gives an answer of 70 tokens 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.training.rewards.reward import BINARY, AnswerAttempt, Bounds, Reference, Scorer, weight_field


class LengthReward(Section):
    """Reward answers of a length."""

    name: Literal["length"] = "length"
    weight: float = weight_field()
    unit: Literal["tokens", "characters", "words"] = "tokens"
    at_least: int = Field(default=1, ge=0, description="shortest length of full reward")
    at_most: int = Field(default=256, ge=1, description="longest length of full reward")
    slack: int = Field(default=0, ge=0, description="units beyond either over which the reward falls to 0")

    @model_validator(mode="after")
    def _is_a_range(self) -> LengthReward:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is more than at_most {self.at_most}; swap them")
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
        return f"{self.at_least} to {self.at_most} {self.unit}"

    def open(self, cache: Path | None) -> Scorer:
        return self._score

    def _score(self, attempts: Sequence[AnswerAttempt]) -> list[float]:
        return [self._judge(self._measure(attempt)) for attempt in attempts]

    def _measure(self, attempt: AnswerAttempt) -> int:
        if self.unit == "tokens":
            return attempt.tokens
        return len(attempt.answer if self.unit == "characters" else attempt.answer.split())

    def _judge(self, length: int) -> float:
        beyond = max(self.at_least - length, length - self.at_most, 0)
        return max(0.0, 1 - beyond / self.slack) if self.slack else float(beyond == 0)
