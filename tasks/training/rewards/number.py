"""1 where the answer's number is the reference's, else 0.

The number is the one after ``mark``, or else the last one: "#### 18" as GSM8K writes its results (Cobbe et al. 2021,
arXiv:2110.14168), "so she pays $1,250.00." Thousands separators, currency and percent signs are left out of account.

Example: ``{name: number}`` gives "That makes 18 eggs." 1 for the reference "9 * 2 = 18\\n#### 18".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
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

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\d)|(?<![\w.])-?\.\d+")


class Number(Section):
    """Reward the right result."""

    name: Literal["number"] = "number"
    weight: float = weight_field()
    reference: Reference = reference_field()
    mark: str = Field(default="####", description="text before the result; without it the last number counts")
    tolerance: float = Field(default=0.0, ge=0, description="largest difference, as a share of the reference")

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
        near = f", within {self.tolerance:.3g} of it" if self.tolerance else ""
        return f"the number of the row's {self.reference}{near}"

    def open(self, cache: Path | None) -> Scorer:
        return self._score

    def _score(self, attempts: Sequence[AnswerAttempt]) -> list[float]:
        return [self._judge(attempt.answer, attempt.known(self.reference) or "") for attempt in attempts]

    def _judge(self, answer: str, reference: str) -> float:
        found, wanted = find_number(answer, self.mark), find_number(reference, self.mark)
        if found is None or wanted is None:
            return 0.0
        return float(abs(found - wanted) <= abs(wanted) * Decimal(str(self.tolerance)))


def find_number(text: str, mark: str) -> Decimal | None:
    """The number after the last mark, or the last one of a text without the mark; None where there is none."""
    _, found, after = text.rpartition(mark) if mark else ("", "", text)
    numbers = _NUMBER.findall(after)
    if not numbers:
        return None
    return Decimal((numbers[0] if found else numbers[-1]).replace(",", ""))
