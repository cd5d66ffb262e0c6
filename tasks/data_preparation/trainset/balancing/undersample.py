"""Random undersampling: rows of large classes are dropped.

Good for: plenty of data, or short training. The choice of the kept rows depends on their content, so that it does not
change when rows of other classes are added.

Example: ``{name: undersample, ratio: 2}``: with 100 and 10 rows the large class keeps 20.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.balancing.balancer import Balanced, Labelled, sort_by_draw


class Undersample(Section):
    """Drops rows of large classes."""

    name: Literal["undersample"] = "undersample"
    ratio: float = Field(
        default=1.0, ge=1, description="maximum ratio of the rows of any label to those of the smallest"
    )
    seed: int = Field(default=0, description="seed of the choice of rows")

    def balance(self, rows: Labelled) -> Balanced:
        """The number of times each row shall occur; 0 for dropped rows."""
        times = list(rows.times)
        maximum = int(min(rows.count().values(), default=0) * self.ratio)
        for members in rows.group().values():
            remaining = maximum
            for row in sort_by_draw(members, rows.ids, "undersample", self.seed):
                times[row] = min(times[row], remaining)
                remaining -= times[row]
        return Balanced(times)
