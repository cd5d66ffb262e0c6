"""Cross-entropy: minus the logarithm of the probability of the right token.

What language models are trained with, and what validation loss and perplexity always are, whatever loss is trained.

Example: ``loss: {name: cross_entropy}``. A right token of probability 0.25 costs -ln 0.25 = 1.386 nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.training.losses.loss import Supervision

if TYPE_CHECKING:
    import torch


class CrossEntropy(Section):
    """Negative log-likelihood of the right tokens."""

    needs_costs: ClassVar[bool] = False

    name: Literal["cross_entropy"] = "cross_entropy"

    def describe(self) -> str:
        return "cross-entropy"

    def total(self, logits: torch.Tensor, supervision: Supervision) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return supervision.weigh(cross_entropy(logits, supervision.tokens, reduction="none"))
