"""Length deviation: how far the length of the answer is from that of the reference, as a factor.

The absolute logarithm to base 2 of (words of the answer + 1) / (words of the reference + 1); in scripts without spaces
characters count. 0 is the same length, 1 half or twice of it. A tuned model that has become talkative or curt shows
here before it does in any other metric.

Example:
    7 words against 3: log2(8 / 4) = 1; 3 against 7: 1 too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.corpus.text.words import find_units
from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item


class LengthDeviation(PerAnswer):
    """Mean number of doublings between the lengths of answer and reference; lower is better."""

    name: Literal["length_deviation"] = "length_deviation"
    title: ClassVar[str] = "Length deviation"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    def measure(self, item: Item, answer: str) -> float:
        found, expected = len(find_units(answer)), len(find_units(item.reference))
        return abs(math.log2((found + 1) / (expected + 1)))
