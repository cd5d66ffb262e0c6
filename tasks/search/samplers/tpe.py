"""Values drawn where earlier trials were good (tree-structured Parzen estimator).

Bergstra, Bardenet, Bengio and Kégl, "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; Watanabe,
arXiv:2304.11127, 2023. Good for a dozen and more trials over a few keys; the first ``startup_trials`` are random draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.search.space import Dimension, Labels


class Tpe(Section):
    """Values drawn where earlier trials were good."""

    name: Literal["tpe"] = Field(default="tpe")
    startup_trials: int = Field(default=8, ge=1, description="random draws before the first that learns from them")

    def list_all(self, space: Mapping[str, Dimension]) -> list[Labels] | None:
        return None

    def problems(self, space: Mapping[str, Dimension]) -> list[str]:
        return []

    def make(self, seed: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(n_startup_trials=self.startup_trials, seed=seed)
