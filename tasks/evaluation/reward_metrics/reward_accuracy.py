"""Reward accuracy: share of held-out items whose reference gets a larger reward than a worse answer.

The worse answer is the one of lowest score of the item's answer set (``answers.parquet``); equal rewards count half, so
a model without rewards has 0.5.

Example:
    Rewards of 1.2 against 0.3, -0.1 against 0.4 and 0 against 0: (1 + 0 + 0.5) / 3 = 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading, require_rewards

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome

NO_WORSE = "no held-out item has a worse answer beside its reference (data/prepared/answers.parquet)"


class RewardAccuracy(Section):
    """Share of pairs that are ranked right; higher is better."""

    name: Literal["reward_accuracy"] = "reward_accuracy"
    title: ClassVar[str] = "Reward accuracy"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "rewards"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None if any(item.worse is not None for item in evidence.items) else NO_WORSE

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        rewards = require_rewards(outcome)
        compared = ~np.isnan(rewards.worse)
        right = (rewards.own > rewards.worse) + 0.5 * (rewards.own == rewards.worse)
        return Scores(np.where(compared, right, 0.0), compared.astype(np.float64))
