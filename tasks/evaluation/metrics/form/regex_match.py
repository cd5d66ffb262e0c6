"""Regex match: the whole answer has a form given by a regular expression.

White space around the answer does not count. An expression that takes longer than a second on an answer counts as not
matched there, so that no answer can hold up an evaluation.

Example:
    ``{name: regex_match, pattern: "(yes|no)"}``: "yes" and " no " match, "Yes." does not.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item

TIMEOUT_S = 1.0


class RegexMatch(PerAnswer):
    """Share of answers of the given form; higher is better."""

    name: Literal["regex_match"] = "regex_match"
    pattern: str = Field(min_length=1, description="regular expression that the whole answer has to match")
    title: ClassVar[str] = "Regex match"
    higher_is_better: ClassVar[bool] = True

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        import re

        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error}); mend it") from error
        return pattern

    def measure(self, item: Item, answer: str) -> float:
        try:
            return float(_compile(self.pattern).fullmatch(answer.strip(), timeout=TIMEOUT_S) is not None)
        except TimeoutError:
            return 0.0


@cache
def _compile(pattern: str) -> Any:
    import regex

    return regex.compile(pattern, regex.DOTALL)
