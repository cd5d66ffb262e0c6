"""Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734): compare the mean log-probabilities of the
tokens, with a margin, and no reference.

``-ln s(beta (m_w - m_l) - gamma)``, where m is the mean log-probability of an answer's tokens. ``nll_weight`` above 0
adds ``-m_w`` (CPO-SimPO), and ``alpha`` other than 0 shapes the rewards as AlphaPO does (arXiv:2501.03884).

Good where answers of different length are compared: the mean takes away what length alone would say. It is sensitive
to ``beta`` (2 to 10, since means are small), to ``gamma`` (0.3 to 1.6) and to the learning rate, which is low.

Example: ``objective: {name: simpo, beta: 2.0, gamma: 0.5}``. With means of -1.0 and -1.5 nats a token the loss is
-ln s(2 * 0.5 - 0.5) = 0.474.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer
from tasks.training.objectives.preferences.cpo import shape_rewards, smoothed_sigmoid
from tasks.training.objectives.preferences.pair_figures import measure_pairs
from tasks.training.objectives.preferences.pair_objective import PairObjective


class Simpo(PairObjective):
    """Likelihoods of the mean token, with a margin."""

    name: Literal["simpo"] = "simpo"
    beta: float = Field(default=2.0, gt=0, description="weight of the mean log-probabilities")
    gamma: float = Field(default=0.5, ge=0, description="margin of the rewards, nats")
    nll_weight: float = Field(default=0.0, ge=0, description="weight of the better answer's likelihood")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of pairs taken to be the wrong way round"
    )
    alpha: float = Field(default=0.0, description="shape of the rewards (AlphaPO); 0: the log-probability")

    def describe(self) -> str:
        return f"simple preference optimisation, beta {self.beta:g}, gamma {self.gamma:g}"

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        found = scorer.log_probabilities(inputs)
        means = found.sums() / found.lengths()
        rewards = shape_rewards(means, self.alpha)
        chosen, rejected = rewards[0::2], rewards[1::2]
        each = smoothed_sigmoid(self.beta * (chosen - rejected) - self.gamma, self.label_smoothing)
        each = each - self.nll_weight * means[0::2]
        return ObjectiveLoss(each.sum(), measure_pairs(self.beta * chosen, self.beta * rejected), found.auxiliary)
