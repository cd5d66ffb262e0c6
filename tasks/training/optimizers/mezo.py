"""MeZO: two forward passes tell how the loss changes along a random direction, and the weights move along it (Malladi
et al. 2023, arXiv:2305.17333; after SPSA: Spall 1992).

With z drawn anew at each step, one number a weight:

    p = (loss(w + shift z) - loss(w - shift z)) / (2 shift)        w = w - lr (p z + weight_decay w)

z is not kept but drawn again from its seed, weight by weight, whenever it is needed, so that training takes the memory
of inference: no gradients, no activations of earlier layers, no states. Several processes measure along the same
direction, each with its own rows, and send one number a step. p z is an unbiased estimate of the gradient,
but a very noisy one: learning rates are about a thousandth of SGD's and steps many thousands.

Good where a model can be run but not trained, for objectives without a gradient, and on tasks that the base nearly
solves already; a prompt that fits the task matters. With gradients at hand anything else is faster.

Example: ``optimizer: {name: mezo}`` with ``learning_rate: 1.0e-6``, ``schedule: {name: constant}``, ``clip_norm: 0``
and ``max_steps: 20000`` on a model of billions of weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class MeZO(Section):
    """Two forward passes a step along a random direction; no gradients."""

    can: ClassVar[OptimizerCan] = replace(
        USUAL,
        needs_backward=False,
        keeps_gradients=False,
        clips=False,
        sharded=False,
        forgets=False,
        rate_shares=None,
    )

    name: Literal["mezo"] = "mezo"
    shift: float = Field(default=1.0e-3, gt=0, description="distance along the direction at which the loss is measured")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 0

    def describe(self) -> str:
        return "MeZO, two forward passes a step"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.zeroth_order import ZerothOrderUpdate

        return ZerothOrderUpdate(groups, self.shift, seed)
