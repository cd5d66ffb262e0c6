"""The memory of one training process, in parts: what a plan states, and what a choice that divides it changes."""

from __future__ import annotations

from dataclasses import dataclass

# What each part of `Memory` is, for pages.
MEANINGS = {
    "weights": "the base's and the method's own, as they are loaded",
    "gradients": "of the trained weights",
    "optimizer": "what the optimizer keeps from step to step, and averages of the weights",
    "casts": "copies of weights in the precision of the computation",
    "activations": "what the blocks keep for the backward pass",
    "logits": "results of the output layer, and what the loss makes of them",
    "communication": "what is held to exchange weights and gradients between processes",
    "buffers": "what the libraries hold beside, and copies that a step makes",
    "fragmentation": "what the C library keeps of freed blocks and cannot use; release_freed_memory: true avoids it",
    "runtime": "PyTorch and what else is imported",
}

# Bytes from which a training on a CPU has each block mapped on its own, and given back when it is freed.
SMALLEST_MAPPED = 2 * 2**20


@dataclass(frozen=True)
class Memory:
    """Bytes by purpose, of one process at its peak; `MEANINGS` says what each is."""

    weights: int
    gradients: int
    optimizer: int
    casts: int
    activations: int
    logits: int
    communication: int
    buffers: int
    fragmentation: int
    runtime: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())

    @property
    def figures(self) -> dict[str, float | int]:
        return {"predicted_memory_bytes": self.total, **vars(self)}
