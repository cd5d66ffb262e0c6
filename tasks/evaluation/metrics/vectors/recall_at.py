"""Recall at k: how often the right text is among the k nearest of those of all items, by a model's vectors.

The right text is the item's own answer, or the nearest prompt of its label, see `tasks.evaluation.retrieval`. For
releases of `objective: {name: contrastive}`.

Example: ``{name: recall_at, k: 5}``
    The right texts stand first, second and tenth: 2 / 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading, require_ranks

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class RecallAt(Section):
    """Share of items whose right text is among the k nearest; higher is better."""

    name: Literal["recall_at"] = "recall_at"
    k: int = Field(default=5, ge=1, description="nearest texts looked at")
    title: ClassVar[str] = "Recall at k"
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
        return Scores((found & (ranks <= self.k)).astype(np.float64), found.astype(np.float64))
