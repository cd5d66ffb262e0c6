"""Label smoothing (Szegedy et al. 2016, arXiv:1512.00567): a share of the target is spread evenly over the vocabulary.

``(1 - share) * -ln p(right) + share * mean over all tokens v of -ln p(v)``

Good against overconfidence, and where some labels are wrong. It keeps every probability away from zero, so validation
loss, which stays cross-entropy, may end higher although fewer answers are wrong.

Example: ``loss: {name: label_smoothing, share: 0.1}``. Over two tokens of probability 0.8 (right) and 0.2 it is
0.9 * 0.2231 + 0.1 * (0.2231 + 1.6094) / 2 = 0.2924 nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.losses.loss import Supervision

if TYPE_CHECKING:
    import torch


class LabelSmoothing(Section):
    """Cross-entropy with a target that leaves something to every token."""

    needs_costs: ClassVar[bool] = False

    name: Literal["label_smoothing"] = "label_smoothing"
    share: float = Field(default=0.1, gt=0, lt=1, description="share of the target spread over the vocabulary")

    def describe(self) -> str:
        return f"cross-entropy with {self.share:g} of the target spread over the vocabulary"

    def total(self, logits: torch.Tensor, supervision: Supervision) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits, supervision.tokens, reduction="none", label_smoothing=self.share)
        return supervision.weigh(losses)
