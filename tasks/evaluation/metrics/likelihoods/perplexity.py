"""Perplexity: ``exp`` of the loss; the number of equally likely tokens the model chooses between on average.

The same information as the loss on a more familiar scale. Its difference is taken after the two mean
losses have been exponentiated, in every bootstrap resample; it is clear of zero exactly when the
loss is.

Example:
    A mean loss of ln 4 = 1.386 nats is a perplexity of 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class Perplexity(Section):
    """``exp`` of the loss; lower is better."""

    name: Literal["perplexity"] = "perplexity"
    title: ClassVar[str] = "Perplexity"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    per_token: ClassVar[bool] = True
    looks_at: ClassVar[Reading] = "references"
    exponentiated: ClassVar[bool] = True

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        from tasks.evaluation.metrics.metric import Scores

        return Scores(outcome.losses, outcome.tokens.astype(float))
