"""Reward calibration: Brier score of the probability that a reward model gives to what people said (Brier 1950).

Of a pair the probability that the reference is the better one, s(r - r'); of an answer whose steps are marked, the
probability s(r) that each step is right, their mean over the steps. 0 is sure and right, 0.25 says nothing, 1 is sure
and wrong: a model whose rewards are too far apart is punished where it errs, which accuracy does not see.

Example:
    Rewards of 2 and 0: s(2) = 0.881, (1 - 0.881)^2 = 0.014. The other way round it is 0.776.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading, require_rewards

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class RewardCalibration(Section):
    """Mean square of what the probabilities are wrong by; lower is better."""

    name: Literal["reward_calibration"] = "reward_calibration"
    title: ClassVar[str] = "Reward calibration (Brier)"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "rewards"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        if any(item.worse is not None or item.steps for item in evidence.items):
            return None
        return "no held-out item has a worse answer or marked steps (data/prepared/answers.parquet)"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np
        from scipy.special import expit

        from tasks.evaluation.metrics.metric import Scores

        rewards = require_rewards(outcome)
        values, weights = np.zeros(len(evidence.items)), np.zeros(len(evidence.items))
        for number, (item, steps) in enumerate(zip(evidence.items, rewards.steps, strict=True)):
            if item.worse is not None:
                values[number] = (1 - expit(rewards.own[number] - rewards.worse[number])) ** 2
                weights[number] = 1
            elif len(steps):
                values[number] = ((expit(steps) - np.array(item.steps)) ** 2).mean()
                weights[number] = len(steps)
        return Scores(values, weights)
