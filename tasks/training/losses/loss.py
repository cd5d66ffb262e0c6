"""The shape of a training loss: a sum over the supervised tokens of a batch.

The trainer hands over logits of the supervised positions alone, divides the sum by the number of supervised tokens of
the whole step, over all accumulated batches and processes, and so gets the same gradient however a step is split.
Every loss is therefore a sum of terms of one position each, and may be called with any part of the positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

# Logits computed at once; more positions go through the output layer in parts, again in the backward pass.
MAXIMUM_LOGITS = 1 << 27


@dataclass(frozen=True)
class Supervision:
    """What a loss is told of some supervised positions, beside their logits.

    Attributes:
        tokens: The right token of each position, shape (positions,).
        weights: Weight of each position, that of its row, shape (positions,); None where all are 1.
        costs: Position, token and cost of wrong tokens that lead to another label, each of shape (costs,); None unless
            the loss needs them.
    """

    tokens: torch.Tensor
    weights: torch.Tensor | None = None
    costs: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def part(self, span: slice) -> Supervision:
        """The same of some neighbouring positions."""
        weights = None if self.weights is None else self.weights[span]
        if self.costs is None:
            return Supervision(self.tokens[span], weights)
        at, tokens, costs = self.costs
        inside = (at >= span.start) & (at < span.stop)
        return Supervision(self.tokens[span], weights, (at[inside] - span.start, tokens[inside], costs[inside]))

    def weigh(self, losses: torch.Tensor) -> torch.Tensor:
        """The sum of the losses of the positions, each times its weight.

        In fp64, since in fp32 a sum over a batch is off by several of its last digits, which ones depending on how the
        rows are split into batches.
        """
        return losses.double().sum() if self.weights is None else losses.double() @ self.weights.double()


class TrainingLoss(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument.

    Attributes:
        needs_costs: Takes the costs of confusing labels, which data preparation has to hand over.
    """

    needs_costs: ClassVar[bool]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def describe(self) -> str:
        """The loss in words, for a page, the middle of a sentence."""
        ...

    def total(self, logits: torch.Tensor, supervision: Supervision) -> torch.Tensor:
        """The sum of the positions' losses, nats for what is a likelihood; a scalar.

        Args:
            logits: In fp32, shape (positions, vocabulary).
            supervision: The right tokens and what else is known of the positions.
        """
        ...
