"""Weights of a mixture, searched on the tasks' validation rows (Nelder & Mead 1965)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LARGEST = 2.0  # of a weight: twice the adapter's own update
STEP = -0.3  # of the search at its beginning


@dataclass(frozen=True)
class FoundWeights:
    """The best weights of a search.

    Attributes:
        weights: One for each adapter.
        loss: Their mean loss over the tasks, nats per token.
        tried: Mixtures that were scored.
    """

    weights: tuple[float, ...]
    loss: float
    tried: int


def search_weights(loss: Callable[[Sequence[float]], float], trials: int, start: Sequence[float]) -> FoundWeights:
    """Minimise the mean loss over the tasks; the same result each time.

    Args:
        loss: Mean loss of a mixture with these weights.
        trials: Mixtures that are scored at most.
        start: Weights at the beginning, of which one at least is above 0.
    """
    from scipy.optimize import minimize

    scored: dict[tuple[float, ...], float] = {}

    def score(values: Sequence[float]) -> float:
        # Two decimals are what people write; nearer points are one.
        weights = tuple(round(float(value), 2) for value in values)
        if not any(weights):
            return float("inf")
        if weights not in scored:
            scored[weights] = loss(weights)
        return scored[weights]

    # The start, and a point beside it in the direction of each weight.
    beside = [[value + STEP if i == j else value for i, value in enumerate(start)] for j in range(len(start))]
    simplex = np.clip([list(start), *beside], 0, LARGEST)
    options = {"maxfev": trials, "xatol": 0.02, "fatol": 1e-4, "initial_simplex": simplex}
    minimize(score, simplex[0], method="Nelder-Mead", bounds=[(0.0, LARGEST)] * len(start), options=options)
    best = min(scored, key=lambda weights: (scored[weights], weights))
    return FoundWeights(best, scored[best], len(scored))
