"""Odds ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691): supervised learning of the better answer,
and a term that makes its odds larger than the worse one's.

``-m_w - beta ln s(ln(odds_w / odds_l))``, where m is the mean log-probability of an answer's tokens and
odds = exp(m) / (1 - exp(m)).

Good where there is no supervised phase before: it teaches the answers and the preference at once, and needs no
reference. Its learning rate is that of supervised learning.

Example: ``objective: {name: orpo, beta: 0.1}``. Tokens of mean probability 0.5 against 0.25 have odds of 1 against 1/3;
the loss is 0.693 - 0.1 ln s(ln 3) = 0.693 + 0.1 * 0.288 = 0.722.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer
from tasks.training.objectives.preferences.pair_figures import measure_pairs
from tasks.training.objectives.preferences.pair_objective import PairObjective

if TYPE_CHECKING:
    import torch


class Orpo(PairObjective):
    """The better answer's likelihood, and the ratio of the odds of both."""

    rate_share: ClassVar[float] = 1.0

    name: Literal["orpo"] = "orpo"
    beta: float = Field(default=0.1, gt=0, description="weight of the odds ratio's term")

    def describe(self) -> str:
        return f"odds ratio preference optimisation, beta {self.beta:g}"

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        from torch.nn.functional import logsigmoid

        found = scorer.log_probabilities(inputs)
        means = found.sums() / found.lengths()
        chosen, rejected = means[0::2], means[1::2]
        odds = (chosen - rejected) - (_log_of_rest(chosen) - _log_of_rest(rejected))
        each = -chosen - self.beta * logsigmoid(odds)
        return ObjectiveLoss(each.sum(), measure_pairs(self.beta * chosen, self.beta * rejected), found.auxiliary)


def _log_of_rest(logarithms: torch.Tensor) -> torch.Tensor:
    """ln(1 - p) from ln p, exact at both ends."""
    import math

    import torch

    near_one = logarithms > -math.log(2)
    # Each branch gets what it can bear, since a gradient flows through both.
    close = (-torch.expm1(torch.where(near_one, logarithms, -torch.ones_like(logarithms)))).log()
    far = torch.log1p(-torch.where(near_one, -torch.ones_like(logarithms), logarithms).exp())
    return torch.where(near_one, close, far)
