"""Preference accuracy: share of held-out items whose reference the model holds for likelier than a worse answer.

What preference training is for, measured on pairs that it has not seen. The worse answer is the one of lowest score of
the item's answer set (``answers.parquet``); equal likelihoods count half. ``likelihood: answer`` compares whole
answers, as DPO and CPO do, and so favours short ones; ``token`` compares means by token, as SimPO, ORPO and IPO do.

Example:
    References of -8 and -20 nats against worse answers of -9 and -15: the first is preferred, the second is not, so the
    accuracy is 0.5. By token, with 8 and 25 tokens against 9 and 15, the means are -1.0 against -1.0 and -0.8 against
    -1.0, so it is 0.75.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class PreferenceAccuracy(Section):
    """Share of items whose reference is likelier than a worse answer."""

    name: Literal["preference_accuracy"] = "preference_accuracy"
    title: ClassVar[str] = "Preference accuracy"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "references"
    exponentiated: ClassVar[bool] = False

    likelihood: Literal["answer", "token"] = Field(
        default="answer", description="what is compared: the log-probability of the whole answer, or its mean by token"
    )

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        if any(item.worse is not None for item in evidence.items):
            return None
        return "no held-out item has a worse answer beside its reference (data/prepared/answers.parquet)"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        assert outcome.worse is not None, "a model answers the items that have worse answers with their losses"
        own, other = outcome.losses, outcome.worse.losses
        if self.likelihood == "answer":
            own, other = own * outcome.tokens, other * outcome.worse.tokens
        has_worse = np.array([item.worse is not None for item in evidence.items])
        preferred = (own < other) + 0.5 * (own == other)
        return Scores(np.where(has_worse, preferred, 0.0).astype(np.float64), has_worse.astype(np.float64))
