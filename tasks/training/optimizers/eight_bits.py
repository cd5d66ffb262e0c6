"""What AdamW's moments take in 8 bits, as bitsandbytes keeps them."""

from __future__ import annotations

import math

from tasks.training.optimizers.optimizer import BYTES
from tasks.training.weights import TrainedWeights

BLOCK = 256  # numbers with one scale
SMALLEST = 4096  # numbers of a tensor that is kept in 8 bits
LEVELS = 2 * 256 * BYTES  # the two tables of 256 levels, once for all tensors


def count_eight_bit_state(trained: TrainedWeights) -> int:
    """Bytes: two moments of one byte a number and a scale for each block; 32 bits for embeddings and small tensors."""
    matrices = [rows * columns for rows, columns in trained.matrices]
    small = [number for number in (*matrices, *trained.vectors) if number < SMALLEST]
    large = [number for number in (*matrices, *trained.vectors) if number >= SMALLEST]
    whole = sum(small) + sum(rows * columns for rows, columns in trained.embeddings)
    scales = sum(math.ceil(number / BLOCK) for number in large)
    return 2 * BYTES * whole + 2 * sum(large) + 2 * BYTES * scales + (LEVELS if large else 0)
