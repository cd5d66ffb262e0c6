"""Stochastic gradient descent: a step against the gradient of a few rows (Robbins & Monro 1951).

    w = w - lr (g + weight_decay w)

How many rows the gradient g is the mean of has given this one rule three names. With all rows of the training split it
is gradient descent (`gradient_descent`), with a single one (``global_batch_size: 1``) stochastic gradient descent in
the narrow sense, and with a batch of them, which is what everybody does, mini-batch gradient descent. ``batch_size``,
``accumulation_steps`` and ``processes`` say how many.

Good where memory for states is short, and as a baseline: it keeps nothing at all. All weights share one step size, so
on language models it needs a far larger learning rate than AdamW and is slow where gradients differ in size.

Example: ``optimizer: {name: sgd}`` with ``learning_rate: 0.1`` and ``global_batch_size: 16``; a weight whose mean
gradient over the 16 rows is 0.2 moves by -0.02.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Sgd(Section):
    """A step against the gradient of a batch; nothing is kept."""

    can: ClassVar[OptimizerCan] = replace(USUAL, rate_shares=None)

    name: Literal["sgd"] = "sgd"

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 0

    def describe(self) -> str:
        return "SGD"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from torch.optim import SGD

        return SGD(groups)
