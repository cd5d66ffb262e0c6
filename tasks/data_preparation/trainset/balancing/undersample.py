"""Random under-sampling: rows of large classes leave.

Good for: plenty of data, or training that must be short. Which rows stay follows from their content, so that the
choice is the same when rows of other classes are added.

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
    ratio: float = Field(default=1.0, ge=1, description="rows of any label over those of the smallest, afterwards")
    seed: int = Field(default=0, description="of the choice of rows")

    def balance(self, rows: Labelled) -> Balanced:
        """How often each row is to be there; 0 for those that leave."""
        times = list(rows.times)
        most = int(min(rows.count().values(), default=0) * self.ratio)
        for members in rows.group().values():
            left = most
            for row in sort_by_draw(members, rows.ids, "undersample", self.seed):
                times[row] = min(times[row], left)
                left -= times[row]
        return Balanced(times)
