"""Random over-sampling: rows of small classes are repeated.

Good for: moderate imbalance; nothing is lost. Repeated rows are learned by heart sooner. Which rows are repeated once
more follows from their content, so that the choice is the same when rows of other classes are added: that is why
this is not imbalanced-learn's sampler, which draws by position.

Example: ``{name: oversample, ratio: 2}``: with 100 and 10 rows the small class gets 50.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.balancing.balancer import Balanced, Labelled, raise_counts, sort_by_draw


class Oversample(Section):
    """Repeats rows of small classes."""

    name: Literal["oversample"] = "oversample"
    ratio: float = Field(default=1.0, ge=1, description="rows of the largest label over those of any other, afterwards")
    seed: int = Field(default=0, description="of the choice of rows")

    def balance(self, rows: Labelled) -> Balanced:
        """How often each row is to be there."""
        times = list(rows.times)
        counts = rows.count()
        wanted = raise_counts(counts, self.ratio)
        for label, members in rows.group().items():
            missing = wanted[label] - counts[label]
            whole, rest = divmod(missing, len(members))
            for place, row in enumerate(sort_by_draw(members, rows.ids, "oversample", self.seed)):
                times[row] += whole + (place < rest)
        return Balanced(times)
