"""Muon: the momentum of a matrix, made orthogonal, is its step (Jordan et al. 2024; at scale: Liu et al. 2025,
arXiv:2502.16982).

    m = momentum m + (1 - momentum) g        o = orthogonal matrix nearest to the momentum, by Newton-Schulz iterations
    w = w (1 - lr weight_decay) - 0.2 sqrt(max(rows, columns)) lr o

All directions of a matrix are learned at one speed, not only those in which the gradient is large. Embeddings, the
output layer, norms and biases have no such directions: AdamW updates them, with a learning rate of their own. The
factor gives Muon's steps the size of AdamW's, so that one learning rate fits both.

Good for training all weights, fewer steps than AdamW for the same loss, and 4 bytes a weight in matrices instead of 8.
The iterations cost about 1% of a step on large batches, more on small ones. Under LoRA it acts on the thin A and B.

Example: ``optimizer: {name: muon, outer_rate: 0.5}`` with ``learning_rate: 1.0e-3``: a layer of 400 x 400 moves by 0.2
x 20 x 0.001 = 0.004 in each of its 400 directions, the root mean square of its numbers being 0.0002; embeddings learn
at 0.0005.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Muon(Section):
    """Orthogonal steps for matrices, AdamW for everything else."""

    # Where weights are sharded, no process has a whole matrix.
    can: ClassVar[OptimizerCan] = replace(USUAL, sharded=False)

    name: Literal["muon"] = "muon"
    momentum: float = Field(default=0.95, ge=0, lt=1, description="share of the momentum kept at each step")
    iterations: int = Field(default=5, ge=1, le=20, description="Newton-Schulz iterations of a step")
    outer_rate: float = Field(
        default=1.0, gt=0, description="learning rate of embeddings, output layer, norms and biases, as a multiple"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's share of the mean gradient kept at each step")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's share of the mean squared gradient kept")

    def problems(self, use: OptimizerUse) -> list[str]:
        if use.trained.matrices:
            return []
        return [
            "optimizer: muon updates matrices inside the blocks, and the method trains none; take optimizer: "
            "{name: adamw}"
        ]

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        return BYTES * (trained.in_matrices + 2 * trained.outside_matrices)

    def describe(self) -> str:
        return "Muon for matrices, AdamW for the rest"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from tasks.training.optimizers.updates.muon import MuonBesideAdamW

        matrices = [group for group in groups if group["part"] == "matrix"]
        others = [{**group, "lr": self.outer_rate * group["lr"]} for group in groups if group["part"] != "matrix"]
        return MuonBesideAdamW(matrices, others, self.momentum, self.iterations, (self.beta1, self.beta2))
