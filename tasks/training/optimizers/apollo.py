"""APOLLO: the gradient itself, each row or column as long as AdamW would make it, read from a small random projection
(Zhu et al. 2024, arXiv:2412.05270).

With a random P of ``rank`` directions, drawn anew from its seed and never kept, for rows <= columns:

    R = P^T G        U = Adam's update from R, of size rank x columns        factor_j = norm(U_j) / norm(R_j)
    W = W - lr sqrt(scale) G diag(factor)

The norm of the whole update may grow by 1% from step to step at most. ``per: tensor`` takes one factor for the matrix;
with ``rank: 1`` and ``scale: 128`` that is APOLLO-Mini. Embeddings, norms and biases, and matrices no wider than the
rank, get AdamW whole.

Good for training all weights where AdamW's moments do not fit: it keeps even less than GaLore, needs no singular
vectors, and APOLLO-Mini keeps hardly more than SGD. Of a matrix of 4,096 x 4,096 at rank 128 it keeps 4 MiB, AdamW
128. Under LoRA, whose matrices are thin already, it saves nothing.

Example: ``optimizer: {name: apollo, rank: 128}`` or ``{name: apollo, rank: 1, per: tensor, scale: 128}``, with
``learning_rate: 3.0e-3`` where AdamW has 1.0e-3. In 12 steps on the embedded base the loss falls from 5.03 to 2.81 at
1.0e-3 and to 2.29 at 3.0e-3, and rises to 5.54 at 1.0e-2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.low_rank import count_state, tell_pointless_rank
from tasks.training.optimizers.optimizer import USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Apollo(Section):
    """The gradient, sized as AdamW would, from a small random projection."""

    # Where weights are sharded, no process has a whole gradient.
    can: ClassVar[OptimizerCan] = replace(USUAL, sharded=False, rate_shares=(1.0, 10.0))

    name: Literal["apollo"] = "apollo"
    rank: int = Field(default=128, ge=1, description="random directions that each matrix's gradient is projected on")
    per: Literal["channel", "tensor"] = Field(
        default="channel", description="channel: a factor for each row or column; tensor: one for the whole matrix"
    )
    refresh_every_steps: int = Field(default=200, ge=1, description="optimizer steps between new random directions")
    scale: float = Field(default=1.0, gt=0, description="its root is a factor on the steps of matrices")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept at each step")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept at each step")
    epsilon: float = Field(default=1.0e-8, gt=0, description="added to the root of the mean squared gradient")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return tell_pointless_rank(self.name, self.rank, use)

    def state_bytes(self, trained: TrainedWeights) -> int:
        return count_state(trained, self.rank, keeps_basis=False)

    def describe(self) -> str:
        return f"APOLLO (rank {self.rank}, one factor per {self.per})"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.low_rank import ApolloUpdate

        return ApolloUpdate(
            groups,
            channels=self.per == "channel",
            seed=seed,
            rank=self.rank,
            refresh_every_steps=self.refresh_every_steps,
            scale=self.scale,
            betas=(self.beta1, self.beta2),
            epsilon=self.epsilon,
        )
