"""Answers in which the teacher refuses, as the cleaning step ``refusals`` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tasks.corpus.text.refusals import refuses
from tasks.synthesis.checks.check import RowCheck, Step
from tasks.synthesis.drafts import Draft, Known


class RefusalCheck(RowCheck):
    """The answer is not a refusal."""

    name: Literal["refusal"] = "refusal"

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        return ["the teacher refuses" if refuses(draft.answer) else None for draft in drafts]
