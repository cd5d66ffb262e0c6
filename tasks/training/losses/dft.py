"""Dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629): cross-entropy times the probability of the right token.

``sg(p) * -ln p``, where p is the probability of the right token and sg lets no gradient through

The gradient of cross-entropy is that of a policy with reward 1/p: tokens that the model holds for unlikely pull without
bound. The factor takes this 1/p away. Good for keeping what a strong base can do; a base that gives the right answers
almost no probability hardly learns with it.

Example: ``loss: {name: dft}``. A token of probability 0.25 counts 0.25 * 1.3863 = 0.3466 nats, and the gradient of its
logit is 0.25 * (0.25 - 1) = -0.1875 instead of -0.75.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.training.losses.loss import Supervision

if TYPE_CHECKING:
    import torch


class DynamicFineTuning(Section):
    """Cross-entropy times the detached probability of the right token."""

    needs_costs: ClassVar[bool] = False

    name: Literal["dft"] = "dft"

    def describe(self) -> str:
        return "dynamic fine-tuning: cross-entropy times the probability of the right token"

    def total(self, logits: torch.Tensor, supervision: Supervision) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits, supervision.tokens, reduction="none")
        return supervision.weigh((-losses.detach()).exp() * losses)
