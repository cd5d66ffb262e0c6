"""Two solutions that must agree: the result given with the task, and the one at the end of the answer.

The call that writes the task states its result, which the call that writes the answer does not see, so agreement is a
self-consistency of two samples (Wang et al. 2023, https://arxiv.org/abs/2203.11171).

Example: ``{name: exact}`` with an answer that ends in ``#### 42`` and the result ``42.0`` is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from tasks.corpus.text.folds import fold_prompt
from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

_NUMBER = re.compile(r"[$€£]?\s*(-?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d+|(?<=\d)))\s*%?\.?")


class ExactCheck(RowCheck):
    """The result after the last mark of an answer."""

    name: Literal["exact"] = "exact"
    mark: str = Field(default="####", min_length=1, description="text before the result in the answer's last line")

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
            raise ValueError("mark must not be blank")
        return mark

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        return [self._judge(draft) for draft in drafts]

    def _judge(self, draft: Draft) -> str | None:
        _, mark, result = draft.answer.rpartition(self.mark)
        if not mark or not result.strip():
            return f"no result after {self.mark}"
        if normalise_result(result) != normalise_result(draft.fields["expected"]):
            return "result differs from the expected one"
        return None


def normalise_result(text: str) -> str | Decimal:
    """A number as its value, without currency sign, separators and zeros; any other text without case and spaces."""
    match = _NUMBER.fullmatch(text.strip())
    return Decimal(match[1].replace(",", "")) if match else fold_prompt(text.strip())
