"""Selects rows by the hash of their content: the baseline that every other method must beat.

Example: ``{name: random}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section
from tasks.corpus.text.draws import draw

if TYPE_CHECKING:
    from tasks.data_preparation.trainset.pruning.pool import Array, Pool


class Random(Section):
    """A random selection of rows."""

    name: Literal["random"] = "random"

    def score(self, pool: Pool) -> Array:
        """A score per row; the rows with the highest are kept."""
        import numpy as np

        return np.array([draw("prune", pool.seed, name) for name in pool.ids])
