"""Adafactor: Adam's second moment of a matrix kept as one number a row and one a column (Shazeer & Stern 2018,
arXiv:1804.04235).

With squared gradient s = g^2 + 1e-30 of a matrix, b = 1 - t^-0.8 at step t:

    r = b r + (1 - b) mean of s over each row        c = b c + (1 - b) mean of s over each column
    v = r c / mean(r)        u = g / sqrt(v)        w = w - lr u / max(1, rms(u) / clip_update)

Good for training all weights of a large model: it keeps rows + columns numbers instead of twice rows x columns, so
that weights and gradients are all that counts. There is no mean gradient, so it is noisier than AdamW. The learning
rate is that of the plan; the paper's own schedule is off.

Example: ``optimizer: {name: adafactor}`` with ``learning_rate: 1.0e-3``; a layer of 4,096 x 4,096 keeps 8,192 numbers,
32 KiB, where AdamW keeps 128 MiB.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.training.optimizers.optimizer import BYTES, USUAL, OptimizerCan, OptimizerUse
from tasks.training.weights import TrainedWeights


class Adafactor(Section):
    """A running mean of the squared gradient for each row and each column."""

    # Sharded weights are flat, without rows and columns.
    can: ClassVar[OptimizerCan] = replace(USUAL, sharded=False)

    name: Literal["adafactor"] = "adafactor"
    clip_update: float = Field(default=1.0, gt=0, description="largest root mean square of a tensor's update over lr")

    def problems(self, use: OptimizerUse) -> list[str]:
        return []

    def unusual(self, use: OptimizerUse) -> list[str]:
        return []

    def state_bytes(self, trained: TrainedWeights) -> int:
        sides = sum(rows + columns for rows, columns in (*trained.matrices, *trained.embeddings))
        return BYTES * (sides + sum(trained.vectors))

    def describe(self) -> str:
        return "Adafactor"

    def build(self, groups: list[dict[str, Any]], seed: int) -> Any:
        from transformers.optimization import Adafactor as TransformersAdafactor

        return TransformersAdafactor(  # type: ignore[no-untyped-call]
            groups, clip_threshold=self.clip_update, scale_parameter=False, relative_step=False
        )
