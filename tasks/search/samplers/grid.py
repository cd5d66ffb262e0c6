"""Every combination of the values once.

Good for one or two keys with a handful of values each; of five keys with three values each it takes 243 trials. A range
needs a number of ``points``: ``{log: [1.0e-4, 1.0e-2], points: 3}`` is 0.0001, 0.001 and 0.01.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.search.space import Dimension, Labels, list_points


class Grid(Section):
    """Every combination of the values once."""

    name: Literal["grid"] = Field(default="grid")

    def list_all(self, space: Mapping[str, Dimension]) -> list[Labels] | None:
        points = [[(key, value) for value in list_points(dimension) or ()] for key, dimension in space.items()]
        return [dict(combination) for combination in itertools.product(*points)]

    def problems(self, space: Mapping[str, Dimension]) -> list[str]:
        return [
            f"space.{key}: a range without points; expected a list of values or `points: 3` for method grid"
            for key, dimension in space.items()
            if list_points(dimension) is None
        ]

    def make(self, seed: int) -> Any:
        """What draws for a trial whose values are all given: nothing."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
