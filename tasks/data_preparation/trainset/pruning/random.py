"""Rows by the hash of their content: the baseline that every other way must beat.

Example: ``{name: random}``
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tasks.contracts.params import Section
from tasks.corpus.text.draws import draw
from tasks.data_preparation.trainset.pruning.pool import Array, Pool


class Random(Section):
    """Any rows."""

    name: Literal["random"] = "random"

    def score(self, pool: Pool) -> Array:
        """A number per row; those with the largest stay."""
        return np.array([draw("prune", pool.seed, name) for name in pool.ids])
