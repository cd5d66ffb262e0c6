"""What GaLore and APOLLO keep, and where neither saves anything."""

from __future__ import annotations

from tasks.training.optimizers.optimizer import BYTES, OptimizerUse
from tasks.training.weights import TrainedWeights


def count_state(trained: TrainedWeights, rank: int, keeps_basis: bool) -> int:
    """Bytes of the moments, of rank x longer side for a compressed matrix, and of its basis, of rank x shorter side."""
    total = 2 * trained.outside_matrices
    for rows, columns in trained.matrices:
        if rank < min(rows, columns):
            total += 2 * rank * max(rows, columns) + (rank * min(rows, columns) if keeps_basis else 0)
        else:
            total += 2 * rows * columns
    return BYTES * total


def tell_pointless_rank(name: str, rank: int, use: OptimizerUse) -> list[str]:
    """A warning where no matrix, or no large one, is compressed."""
    widest = max((min(size) for size in use.trained.matrices), default=0)
    if use.frozen_base:
        return [
            f"optimizer {name} saves nothing where the method trains thin matrices beside a frozen base; take "
            "optimizer: {name: adamw}"
        ]
    if rank >= widest:
        return [
            f"optimizer.rank: {rank} is not below the shorter side of any trained matrix (at most {widest}), so {name} "
            "compresses nothing; lower it to a quarter of that"
        ]
    return []
