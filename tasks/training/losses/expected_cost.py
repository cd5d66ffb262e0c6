"""Expected cost: cross-entropy, and what the model's mistakes would cost, by the probabilities it gives them.

``-ln p(right) + share * sum over tokens v of p(v) c(v)``

The costs of confusing labels are those of ``data_preparation.balancing.costs``. c(v) is the cost of going on with token
v where the answers of the training rows part: the mean cost over the labels of the answers that go on so, see
`tasks.training.answer_costs`. A wrong turn can only be taken where all before was right, so the sum over an answer's
tokens is no less than the expected cost of the answer that the model would draw, each branch counted with its mean.

This is the cost-sensitive regularisation of Galdran et al. 2020 (arXiv:2010.00291), CE + lambda <C(y, .), p>, for
classes that are written in tokens. The expected cost alone would hardly move where the right answer has next to no
probability. Weights that data preparation gives to labels apply, without the sum of the costs that they otherwise
contain.

Good where one confusion costs much more than another, and labels' answers differ in few tokens. Example:
``loss: {name: expected_cost, share: 1.0}``. Where p(right) is 0.7 and the model gives 0.2 to the label that costs 5 and
0.1 to one that costs 1, the loss is 0.3567 + 0.2 * 5 + 0.1 * 1 = 1.4567.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.losses.loss import Supervision

if TYPE_CHECKING:
    import torch


class ExpectedCost(Section):
    """Cross-entropy and the expected cost of confusing labels."""

    needs_costs: ClassVar[bool] = True

    name: Literal["expected_cost"] = "expected_cost"
    share: float = Field(default=1.0, gt=0, description="nats that an expected cost of 1 counts as")

    def describe(self) -> str:
        return f"cross-entropy and {self.share:g} times the expected cost of confusing labels"

    def total(self, logits: torch.Tensor, supervision: Supervision) -> torch.Tensor:
        norms = logits.logsumexp(-1)
        right = logits.gather(-1, supervision.tokens[:, None])[:, 0]
        total = supervision.weigh(norms - right)
        if supervision.costs is None:
            return total
        at, tokens, costs = supervision.costs
        expected = (logits[at, tokens] - norms[at]).exp() * costs
        if supervision.weights is not None:
            expected = expected * supervision.weights[at]
        return total + self.share * expected.double().sum()
