"""Answers in which the teacher refuses, as the cleaning step ``refusals`` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class RefusalCheck(RowCheck):
    """The answer answers."""

    name: Literal["refusal"] = "refusal"

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        from tasks.language_models.probes.refusals import refuses

        return ["the teacher refuses" if refuses(draft.answer) else None for draft in drafts]
