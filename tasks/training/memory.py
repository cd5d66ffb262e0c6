"""The memory of one training process, in parts: what a plan states, and what a choice that divides it changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Bytes by purpose, of one process at its peak.

    Attributes:
        weights: The base's and the method's own, as they are loaded.
        gradients: Of the trained weights.
        optimizer: States of the optimizer.
        casts: Copies of weights in the precision of the computation.
        activations: What the blocks keep for the backward pass.
        logits: The output layer's results, and what the loss makes of them.
        communication: What is held to exchange weights and gradients between processes; 0 with one process.
        fragmentation: What the allocator keeps and cannot use.
        runtime: PyTorch and what else is imported.
    """

    weights: int
    gradients: int
    optimizer: int
    casts: int
    activations: int
    logits: int
    communication: int
    fragmentation: int
    runtime: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())

    @property
    def figures(self) -> dict[str, float | int]:
        return {"predicted_memory_bytes": self.total, **vars(self)}
