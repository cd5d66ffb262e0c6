"""Gradient descent: a step against the gradient of the whole training split (Cauchy 1847).

    w = w - lr (g + weight_decay w)        g: mean over every supervised token of every row

One epoch is one step: batch and accumulation are set so that a step sees each row exactly once, whatever fits into a
forward pass, and params that say otherwise are refused. `sgd` is the same rule on a batch of rows.

Good for a few hundred rows and for finding out how far noise of the batches matters: the gradient has none, so that
the loss falls at every step that is short enough. A step costs as much as an epoch, so ``epochs`` is the number of
steps. It keeps nothing.

Example: ``optimizer: {name: gradient_descent}`` with ``learning_rate: 1.0``, ``epochs: 50`` and 1,000 rows in batches
of 8: the plan has 125 accumulation steps and 50 optimizer steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class GradientDescent(Section):
    """A step against the gradient of all rows; nothing is kept."""

    can: ClassVar[OptimizerCan] = replace(USUAL, full_batch=True, rate_shares=None)

    name: Literal["gradient_descent"] = "gradient_descent"

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 0

    def describe(self) -> str:
        return "gradient descent, each step over all rows"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import SGD

        return SGD(groups)
