"""Contrastive preference optimisation (Xu et al. 2024, arXiv:2401.08417): prefer the better answer without a reference,
and keep it likely.

``-ln s(beta (ln pi_w - ln pi_l)) + nll_weight * -m_w``, where m is the mean log-probability of an answer's tokens;
``loss: hinge`` and ``ipo`` put those of SLiC and IPO in place of the first term. ``alpha`` other than 0 shapes the
rewards as AlphaPO does (arXiv:2501.03884): ``(1 - p^-alpha) / alpha`` in place of ``ln p``.

Good where the reference would hold the model back: the first term alone may lower both answers' likelihood without
bound, which the second prevents. It counts whole answers, so that long ones weigh more.

Example: ``objective: {name: cpo, beta: 0.1}``. With ln pi of -10 and -12 and 5 tokens in the better answer the loss is
-ln s(0.1 * 2) + 10 / 5 = 0.598 + 2 = 2.598.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer
from tasks.training.objectives.preferences.pair_figures import measure_pairs
from tasks.training.objectives.preferences.pair_objective import PairObjective

if TYPE_CHECKING:
    import torch


class Cpo(PairObjective):
    """Likelihoods of whole answers, and the better one's likelihood by token."""

    name: Literal["cpo"] = "cpo"
    loss_type: Literal["sigmoid", "hinge", "ipo"] = Field(default="sigmoid", description="of a pair")
    beta: float = Field(default=0.1, gt=0, description="weight of the log-probabilities")
    nll_weight: float = Field(default=1.0, ge=0, description="weight of the better answer's likelihood")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of pairs taken to be the wrong way round"
    )
    alpha: float = Field(default=0.0, description="shape of the rewards (AlphaPO); 0: the log-probability")

    def describe(self) -> str:
        return f"contrastive preference optimisation: {self.loss_type}, beta {self.beta:g}"

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        found = scorer.log_probabilities(inputs)
        sums, lengths = found.sums(), found.lengths()
        rewards = shape_rewards(sums, self.alpha)
        chosen, rejected = rewards[0::2], rewards[1::2]
        each = self._compare(chosen - rejected) - self.nll_weight * (sums / lengths)[0::2]
        return ObjectiveLoss(each.sum(), measure_pairs(self.beta * chosen, self.beta * rejected), found.auxiliary)

    def _compare(self, difference: torch.Tensor) -> torch.Tensor:
        if self.loss_type == "hinge":
            return (1 - self.beta * difference).relu()
        if self.loss_type == "ipo":
            return (difference - 1 / (2 * self.beta)).square()
        return smoothed_sigmoid(self.beta * difference, self.label_smoothing)


def shape_rewards(likelihoods: torch.Tensor, alpha: float) -> torch.Tensor:
    """Rewards of answers from their log-probabilities: ``(1 - p^-alpha) / alpha``, at alpha 0 the log-probability."""
    import torch

    return likelihoods if alpha == 0 else -torch.expm1(-alpha * likelihoods) / alpha


def smoothed_sigmoid(scaled: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """``-(1 - e) ln s(x) - e ln s(-x)``."""
    from torch.nn.functional import logsigmoid

    return -(1 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)
