"""Loss: mean negative log-likelihood of the reference answers, nats per token.

Every token of every reference counts the same, the end of turn included, so long answers weigh more.
Good for detecting small changes (it has the highest power of all metrics here); it does not measure what
the model generates by itself.

Example:
    Two answers of 2 and 6 tokens with mean losses 1.0 and 2.0: (2 x 1.0 + 6 x 2.0) / 8 = 1.75.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class Loss(Section):
    """Nats per token of the reference answers; lower is better."""

    name: Literal["loss"] = "loss"
    title: ClassVar[str] = "Loss"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    per_token: ClassVar[bool] = True
    looks_at: ClassVar[Reading] = "references"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        from tasks.evaluation.metrics.metric import Scores

        return Scores(outcome.losses, outcome.tokens.astype(float))
