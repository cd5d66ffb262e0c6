"""Finished: the model ended its turn by itself, within the limit of ``evaluation.generation.max_new_tokens``.

A model that never learnt to stop, or whose end is not obeyed, is near 0. Answers that are longer than the limit count
as not finished, so the limit has to be above the references' length.

Example:
    Two of three answers end with the end of turn, one is cut at the limit: 2/3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class FinishedAnswers(Section):
    """Share of answers that end by themselves; higher is better."""

    name: Literal["finished"] = "finished"
    title: ClassVar[str] = "Finished answers"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        return Scores(outcome.finished.astype(np.float64), np.ones(len(outcome.answers)))
