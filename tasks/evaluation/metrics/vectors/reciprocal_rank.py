"""Mean reciprocal rank: how near the top the right text stands among those of all items, by a model's vectors.

1 / rank of the item's own answer, or of the nearest prompt of its label, see `tasks.evaluation.retrieval` (Voorhees
1999, TREC-8). For releases of `objective: {name: contrastive}`; moves with every place near the top and hardly below.

Example:
    The right texts stand first, second and tenth: (1 + 0.5 + 0.1) / 3 = 0.533.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading, require_ranks

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class ReciprocalRank(Section):
    """Mean of 1 / rank of the right text; higher is better."""

    name: Literal["reciprocal_rank"] = "reciprocal_rank"
    title: ClassVar[str] = "Mean reciprocal rank"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "vectors"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        ranks = require_ranks(outcome)
        found = ranks > 0
        return Scores(np.where(found, 1 / np.maximum(ranks, 1), 0.0), found.astype(np.float64))
