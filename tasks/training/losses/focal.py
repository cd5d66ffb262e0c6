"""Focal loss (Lin et al. 2017, arXiv:1708.02002): cross-entropy that turns away from what is already right.

``(1 - p)^gamma * -ln p``, where p is the probability of the right token

Good where most tokens are easy and the few that matter are not, such as one deciding word in a long fixed phrase.

Example: ``loss: {name: focal, gamma: 2.0}``. A token of probability 0.9 counts 0.01 * 0.1054 = 0.0011 instead of
0.1054 nats; one of probability 0.1 counts 0.81 * 2.3026 = 1.8651.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.losses.loss import Supervision

if TYPE_CHECKING:
    import torch


class Focal(Section):
    """Cross-entropy times a power of the probability of being wrong."""

    needs_costs: ClassVar[bool] = False

    name: Literal["focal"] = "focal"
    # Below 1 the gradient has no bound where the right token is certain.
    gamma: float = Field(default=2.0, ge=1, description="power of the probability of being wrong")

    def describe(self) -> str:
        return f"focal loss with gamma {self.gamma:g}"

    def total(self, logits: torch.Tensor, supervision: Supervision) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits, supervision.tokens, reduction="none")
        return supervision.weigh((-losses).expm1().neg() ** self.gamma * losses)
