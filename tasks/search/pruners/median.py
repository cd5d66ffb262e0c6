"""A trial ends when its best validation loss so far is above the median of the finished trials at the same step.

Golovin et al., "Google Vizier", KDD 2017, section 3.2.1. Gives up about half of the bad trials early; a trial that is
slow at first and good in the end may be among them, which ``warmup_steps`` bounds.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasks.contracts.params import Section


class Median(Section):
    """A trial ends when it is worse than the median of the finished ones at the same step."""

    name: Literal["median"] = Field(default="median")
    finished_trials: int = Field(default=4, ge=1, description="finished trials before the first may be pruned")
    warmup_steps: int = Field(default=0, ge=0, description="optimizer steps that every trial may run")

    def make(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import MedianPruner

        return MedianPruner(n_startup_trials=self.finished_trials, n_warmup_steps=self.warmup_steps)
