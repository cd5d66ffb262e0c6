"""Schedule-free AdamW: an average of the iterates takes the place of the falling learning rate (Defazio et al. 2024,
arXiv:2405.15682; the package ``schedulefree`` of its authors).

    y = (1 - beta1) z + beta1 x        gradient g at y        z = z - lr (g / (sqrt(v) + epsilon) + weight_decay y)
    x = mean of all z so far

Three points: gradients are taken at y, steps at z, and the model that is validated, saved and served is x. Whoever
forgets the change from y to x validates and ships a worse model without an error; here the trainer makes it before
each validation, checkpoint and the end.

Good where the number of steps is not known before: the loss at any step is near what a schedule that ends there would
have reached. It keeps 8 bytes a weight, as AdamW. Set ``schedule: {name: constant}``, a warm-up and a rate up to ten
times AdamW's.

Example: ``optimizer: {name: schedule_free}`` with ``schedule: {name: constant}`` and ``learning_rate: 2.5e-3``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class ScheduleFree(Section):
    """AdamW whose averaged iterates need no falling learning rate."""

    # The change of points happens in the weights themselves, of which a sharded optimizer has copies only, and takes
    # the states.
    can: ClassVar[OptimizerCan] = replace(
        USUAL, sharded=False, forgets=False, library="schedulefree", rate_shares=(1.0, 10.0)
    )

    name: Literal["schedule_free"] = "schedule_free"
    beta1: float = Field(default=0.9, gt=0, lt=1, description="share of the mean x in the point of the gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")

    def problems(self, use: OptimizerUse) -> list[str]:
        if not use.averaged:
            return []
        return ["ema_decay: schedule_free averages its weights itself; set ema_decay: null or take another optimizer"]

    def unusual(self, use: OptimizerUse) -> list[str]:
        if use.schedule == "constant":
            return []
        return [
            f"schedule: {use.schedule}, but schedule_free is made for a constant rate; set schedule: {{name: constant}}"
        ]

    def state_bytes(self, trained: TrainedWeights) -> int:
        return 2 * BYTES * trained.total

    def describe(self) -> str:
        return "schedule-free AdamW"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from schedulefree import AdamWScheduleFree

        return AdamWScheduleFree(groups, betas=(self.beta1, self.beta2), eps=self.epsilon)
