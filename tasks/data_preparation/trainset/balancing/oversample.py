"""Random oversampling: rows of small classes are repeated.

Good for: moderate imbalance; no row is lost, but repeated rows are memorized sooner. The choice of the rows repeated
once more depends on their content, so that it does not change when rows of other classes are added. The sampler of
imbalanced-learn, which draws by position, does not guarantee this.

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
    ratio: float = Field(
        default=1.0, ge=1, description="maximum ratio of the rows of the largest label to those of any other"
    )
    seed: int = Field(default=0, description="seed of the choice of rows")

    def balance(self, rows: Labelled) -> Balanced:
        """The number of times each row shall occur."""
        times = list(rows.times)
        counts = rows.count()
        targets = raise_counts(counts, self.ratio)
        for label, members in rows.group().items():
            missing = targets[label] - counts[label]
            whole, rest = divmod(missing, len(members))
            for place, row in enumerate(sort_by_draw(members, rows.ids, "oversample", self.seed)):
                times[row] += whole + (place < rest)
        return Balanced(times)
