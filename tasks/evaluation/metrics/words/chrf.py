"""chrF: F-score of shared character n-grams of length one to six, recall counting twice as much.

Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015, computed by sacrebleu. The score is the
mean of the items' scores, 0 to 1 where papers write 0 to 100. Good for languages with rich word forms and for scripts
without spaces, where word n-grams are rare.

Example:
    "chien" against "chiens" shares five of six letters and scores high; ROUGE and BLEU see no common word.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item


class ChrF(PerAnswer):
    """Mean chrF of the answers; higher is better."""

    name: Literal["chrf"] = "chrf"
    title: ClassVar[str] = "chrF"
    higher_is_better: ClassVar[bool] = True

    def measure(self, item: Item, answer: str) -> float:
        return float(_metric().sentence_score(answer, [item.reference]).score / 100)


@cache
def _metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
