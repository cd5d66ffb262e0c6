"""What a model does with rows that it was trained on, less what it does with held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.metrics.metric import Scores, Tally
from tasks.evaluation.suites.suite import SuiteScores


def difference_of_means(found: SuiteScores, of: str, difference: str, trained: Sequence[bool]) -> SuiteScores:
    """Keep a measure for the trained rows, and add its mean over them less that over the held-out ones.

    Args:
        found: Scores with the measure ``of`` for all rows.
        of: Name of the measure.
        difference: Name of the difference; without rows of both kinds it has no weight.
        trained: Whether each question is of a row that was trained on.
    """
    scores, inside = found.scores[of], np.array(trained, dtype=np.float64)
    weights, values = scores.weights, scores.values
    counts = np.stack(
        [values * weights * inside, weights * inside, values * weights * (1 - inside), weights * (1 - inside)]
    )
    both = bool((weights * inside).sum() > 0 and (weights * (1 - inside)).sum() > 0)
    signed = np.where(inside > 0, values, -values)
    return replace(
        found,
        scores={
            **found.scores,
            of: Scores(values, weights * inside),
            difference: Scores(signed, weights * float(both), Tally(counts.T, _subtract)),
        },
    )


def _subtract(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the trained rows less that over the others; 0 of a resample that lacks one of them."""
    trained, held_out = (
        np.divide(
            counts[..., place],
            counts[..., place + 1],
            out=np.zeros(counts.shape[:-1]),
            where=counts[..., place + 1] > 0,
        )
        for place in (0, 2)
    )
    both = (counts[..., 1] > 0) & (counts[..., 3] > 0)
    return np.asarray(np.where(both, trained - held_out, 0.0), dtype=np.float64)
