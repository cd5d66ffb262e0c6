"""One process: the stage's own trains.

The fastest way on a CPU, whose cores one process uses, and on a machine with one accelerator.

Example: ``distribution: {name: single}``, the default.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tasks.contracts.params import Section
from tasks.training.distribution.distribution import Can, M


class Single(Section):
    """Train in the process of the stage."""

    can: ClassVar[Can] = Can(many=False)

    name: Literal["single"] = "single"

    def ranks(self, processes: int) -> int:
        return processes

    def problems(self, processes: int) -> list[str]:
        return []

    def per_rank(self, memory: M, ranks: int) -> M:
        return memory

    def describe(self) -> str:
        return "one process"
