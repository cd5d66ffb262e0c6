"""Answers in which the teacher refuses, as the cleaning step ``refusals`` finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from tasks.contracts.params import Section
from tasks.data_preparation.cleaning.refusals import Refusals
from tasks.data_preparation.synthesis.checks.check import Step
from tasks.data_preparation.synthesis.drafts import Draft, Known


class Refusal(Section):
    """The answer answers."""

    name: Literal["refusal"] = "refusal"

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    @property
    def fields(self) -> Mapping[str, str]:
        return {}

    @property
    def hint(self) -> str:
        return ""

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        find = Refusals()
        return ["the teacher refuses" if find.refuses(draft.answer) else None for draft in drafts]
