"""Number match: the last number of the answer is the last number of the reference.

As answers to GSM8K are judged (Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168), where
the result stands at the end of the reasoning. Numbers are compared by value, to one part in a million: ``1,200``,
``1200.0`` and ``$1200`` are the same; a comma is taken for a thousands separator where three digits follow it, else for
a decimal one. References without a number are not scored.

Example:
    "So she has 3 x 4 = 12 apples." against "#### 12": 1; "about 12.5": 0.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence

_NUMBER = re.compile(r"(?<![\w.,])[-\u2212+]?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:[.,]\d+)?)")


class NumberMatch(PerAnswer):
    """Share of answers whose last number is that of the reference; higher is better."""

    name: Literal["number_match"] = "number_match"
    title: ClassVar[str] = "Number match"
    higher_is_better: ClassVar[bool] = True

    def reads(self, item: Item) -> bool:
        return find_last_number(item.reference) is not None

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None if any(map(self.reads, evidence.items)) else "no reference has a number"

    def measure(self, item: Item, answer: str) -> float:
        expected, found = find_last_number(item.reference), find_last_number(answer)
        return float(expected is not None and found is not None and math.isclose(found, expected, rel_tol=1e-6))


def find_last_number(text: str) -> float | None:
    """The value of the last number that stands in a text; None without one."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    number = found[-1].replace("\u2212", "-")
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", number):
        return float(number.replace(",", ""))
    return float(number.replace(",", "."))
