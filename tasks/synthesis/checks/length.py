"""Prompts and answers that are too short or too long.

Example: ``{name: length, prompts: [10, 600], answers: [1, 4000]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class LengthCheck(RowCheck):
    """Characters."""

    name: Literal["length"] = "length"
    prompts: tuple[int, int] = Field(default=(8, 2000), description="minimum and maximum characters of a prompt")
    answers: tuple[int, int] = Field(default=(1, 8000), description="minimum and maximum characters of an answer")

    @property
    def steps(self) -> tuple[Step, ...]:
        return "instructions", "answers"

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        if step == "instructions":
            return [self._judge(draft.instruction, "prompt", self.prompts) for draft in drafts]
        return [self._judge(draft.answer, "answer", self.answers) for draft in drafts]

    @staticmethod
    def _judge(text: str, of: str, limits: tuple[int, int]) -> str | None:
        if len(text) < limits[0]:
            return f"{of} shorter than {limits[0]} characters"
        return f"{of} longer than {limits[1]} characters" if len(text) > limits[1] else None
