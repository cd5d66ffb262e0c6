"""AdaLOMO: LOMO with Adafactor's row and column means and a step in proportion to each tensor's size (Lv et al. 2023,
arXiv:2310.10195).

Inside the backward pass, for a matrix with squared gradient s = g^2 + 1e-30 and b = 1 - t^-0.8 at step t:

    r = b r + (1 - b) mean of s over each row        c = b c + (1 - b) mean of s over each column
    u = g / sqrt(r c / mean(r))        u = u / max(1, rms(u) / clip_update)
    w = w - lr max(0.001, rms(w)) (u + weight_decay w)

Good for training all weights where not even the gradients fit, with a quality near AdamW's. It keeps rows + columns
numbers of a matrix. What LOMO cannot do, it cannot either: clipping by the norm, accumulation, several processes.

Example: ``optimizer: {name: adalomo}`` with ``learning_rate: 5.0e-4`` and ``clip_norm: 0``: every tensor moves by
about 0.05% of its size in a step, which is why the rate can be larger than AdamW's for small weights.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, INSIDE_BACKWARD, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class AdaLomo(Section):
    """Adafactor's means inside the backward pass; gradients are not kept."""

    can: ClassVar[OptimizerCan] = INSIDE_BACKWARD

    name: Literal["adalomo"] = "adalomo"
    clip_update: float = Field(default=1.0, gt=0, description="largest root mean square of a tensor's update")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        sides = sum(rows + columns for rows, columns in (*trained.matrices, *trained.embeddings))
        return BYTES * (sides + sum(trained.vectors))

    def describe(self) -> str:
        return "AdaLOMO"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.inside_backward import AdaLomoUpdate

        return AdaLomoUpdate(groups, self.clip_update)
