"""1 where the answer is the row's own, else 0.

Good where there is one right wording: labels, names, choices. ``contains`` asks for it anywhere in the answer.

Example: ``{name: exact_match}`` gives " Track parcel" 1 for the reference "track parcel".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.rewards.reward import (
    BINARY,
    AnswerAttempt,
    Bounds,
    Reference,
    Scorer,
    reference_field,
    weight_field,
)


class ExactMatchReward(Section):
    """Reward the right wording."""

    name: Literal["exact_match"] = "exact_match"
    weight: float = weight_field()
    reference: Reference = reference_field()
    contains: bool = Field(default=False, description="the reference may stand anywhere in the answer")
    fold: bool = Field(default=True, description="leave case and the amount of white space out of account")

    @property
    def needs(self) -> tuple[Reference, ...]:
        return (self.reference,)

    @property
    def bounds(self) -> Bounds:
        return BINARY

    def problems(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return []

    def describe(self) -> str:
        return f"{'containing' if self.contains else 'equal to'} the row's {self.reference}"

    def open(self, cache: Path | None) -> Scorer:
        return self._score

    def _score(self, attempts: Sequence[AnswerAttempt]) -> list[float]:
        values = []
        for attempt in attempts:
            answer, wanted = self._fold(attempt.answer), self._fold(attempt.known(self.reference) or "")
            values.append(float(wanted in answer if self.contains and wanted else answer == wanted))
        return values

    def _fold(self, text: str) -> str:
        return " ".join(text.casefold().split()) if self.fold else text
