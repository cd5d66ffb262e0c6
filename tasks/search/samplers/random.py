"""Values drawn independently of one another.

Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012. Better than a grid where only some of
the keys matter, since every trial tries another value of each; the comparison for anything cleverer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.search.space import Dimension, Labels


class RandomDraws(Section):
    """Values drawn independently of one another."""

    name: Literal["random"] = Field(default="random")

    def list_all(self, space: Mapping[str, Dimension]) -> list[Labels] | None:
        return None

    def problems(self, space: Mapping[str, Dimension]) -> list[str]:
        return []

    def make(self, seed: int) -> Any:
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
