"""Two solutions that must agree: the result given with the task, and the one an answer ends in.

The writer of the task states its result without showing it to the writer of the answer; the two are calls of their
own, so agreement is a self-consistency of two (Wang et al. 2023, https://arxiv.org/abs/2203.11171).

Example: ``{name: exact}`` with an answer that ends in ``#### 42`` and the result ``42.0`` goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from tasks.corpus.text.words import fold_text
from tasks.synthesis.checks.check import DraftCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

_NUMBER = re.compile(r"[$€£]?\s*(-?[\d,]*\.?\d+)\s*%?\.?")


class Exact(DraftCheck):
    """The result behind the last mark of an answer."""

    name: Literal["exact"] = "exact"
    mark: str = Field(default="####", min_length=1, description="stands before the result in the answer's last line")

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    @property
    def fields(self) -> Mapping[str, str]:
        return {"expected": "the final result alone, such as a number"}

    @property
    def hint(self) -> str:
        return f"End with a line of its own: {self.mark} and the final result alone."

    @field_validator("mark")
    @classmethod
    def _is_no_space(cls, mark: str) -> str:
        if not mark.strip():
            raise ValueError("mark must hold something besides spaces")
        return mark

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        return [self._judge(draft) for draft in drafts]

    def _judge(self, draft: Draft) -> str | None:
        _, mark, result = draft.answer.rpartition(self.mark)
        if not mark or not result.strip():
            return f"no result behind {self.mark}"
        if normalise_result(result) != normalise_result(draft.fields["expected"]):
            return "another result than expected"
        return None


def normalise_result(text: str) -> str | Decimal:
    """A number as its value, whatever its currency sign, separators and zeros; any other text folded."""
    text = text.strip()
    if match := _NUMBER.fullmatch(text):
        try:
            return Decimal(match[1].replace(",", ""))
        except InvalidOperation:
            return fold_text(text)
    return fold_text(text)
