"""GaLore: AdamW on what is left of a matrix's gradient in the space of its largest singular vectors (Zhao et al. 2024,
arXiv:2403.03507).

Every ``refresh_every_steps`` steps the first ``rank`` singular vectors P of the gradient G (rows x columns) are taken
on its shorter side; with rows <= columns:

    R = P^T G        moments of Adam from R, of size rank x columns        W = W - lr scale P (m / (sqrt(v) + epsilon))

Embeddings, norms and biases, and matrices no wider than the rank, get AdamW whole.

Good for training all weights, with nearly AdamW's quality, where its moments do not fit: of a matrix of 4,096 x 4,096
it keeps 2 x 128 x 4,096 numbers of moments and 128 x 4,096 of P at rank 128, 6 MiB, where AdamW keeps 128 MiB. The
singular vectors cost a pause at each refresh. Under LoRA, whose matrices are thin already, it saves nothing.

Example: ``optimizer: {name: galore, rank: 128}`` with ``learning_rate: 1.0e-2``, ten times AdamW's, since ``scale``
takes a quarter and only a part of each gradient is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.low_rank import count_state, tell_pointless_rank
from tasks.training.optimizers.optimizer import USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class GaLore(Section):
    """AdamW in the space of each gradient's largest singular vectors."""

    # Where weights are sharded, no process has a whole gradient.
    can: ClassVar[OptimizerCan] = replace(USUAL, sharded=False, rate_shares=(1.0, 10.0))

    name: Literal["galore"] = "galore"
    rank: int = Field(default=128, ge=1, description="singular vectors kept of each matrix's gradient")
    refresh_every_steps: int = Field(default=200, ge=1, description="optimizer steps between new singular vectors")
    scale: float = Field(default=0.25, gt=0, description="factor on the steps of matrices")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept at each step")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return tell_pointless_rank(self.name, self.rank, use)

    def state_bytes(self, trained: TrainedWeights) -> int:
        return count_state(trained, self.rank, keeps_basis=True)

    def describe(self) -> str:
        return f"GaLore (rank {self.rank})"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.low_rank import GaLoreUpdate

        betas = (self.beta1, self.beta2)
        return GaLoreUpdate(groups, self.rank, self.refresh_every_steps, self.scale, betas, self.epsilon)
