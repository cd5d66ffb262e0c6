"""At each rung, of the trials that got so far, only the best go on (asynchronous successive halving).

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934. Rungs are at
``first_rung_steps`` optimizer steps and at each multiple of that by ``reduction``. Good for many trials of which most
are bad; a trial is compared at its first validation at or after a rung.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasks.contracts.params import Section


class Halving(Section):
    """At each rung only the best of the trials that got so far go on."""

    name: Literal["halving"] = Field(default="halving")
    first_rung_steps: int = Field(default=100, ge=1, description="optimizer steps until the first comparison")
    reduction: int = Field(default=3, ge=2, description="one of so many goes on; each rung is so many times longer")

    def make(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=self.first_rung_steps, reduction_factor=self.reduction)
