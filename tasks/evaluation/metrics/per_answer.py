"""The base of metrics whose score is the mean of one number per answer."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class PerAnswer(Section):
    """A mean over the items, or over those of them that the metric reads."""

    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def reads(self, item: Item) -> bool:
        """Whether the item is scored; looks at its reference only, so that all models are scored on the same items."""
        return True

    @abstractmethod
    def measure(self, item: Item, answer: str) -> float:
        """The value of one answer to an item that the metric reads."""

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        read = [self.reads(item) for item in evidence.items]
        values = [
            self.measure(item, answer) if scored else 0.0
            for item, answer, scored in zip(evidence.items, outcome.answers, read, strict=True)
        ]
        return Scores(np.array(values, dtype=np.float64), np.array(read, dtype=np.float64))
