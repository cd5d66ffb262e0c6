"""Which learning rate to train a choice with next, so that each is compared at one that suits it.

Good rates of optimizers and methods are orders of magnitude apart, and a grid over all of them with every seed costs a
multiple of what is shown in the end. Here the first seed climbs: ten times more, or ten times less, until the best rate
has a worse one on either side, then once half-way (on the logarithm) to the better of the two. The other seeds are
trained at the best rate only. Where they fall behind what another rate reached with fewer seeds, that one goes on, so
that a rate which was lucky with the first seed does not stand for the choice.

Example: from 1.0e-3, with its best at 4.0e-3: 1.0e-3, 1.0e-2, 1.0e-4 and 3.2e-3 with the first seed, then 3.2e-3 with
two more: six trainings, of which a grid over four rates has twelve.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

TEN = 2  # rungs of the ladder from a rate to ten times of it
REACH = 10  # rungs on either side of where it begins: five orders of magnitude


def list_rates(start: float) -> list[float]:
    """The ladder of learning rates: half orders of magnitude apart, ``start`` in its middle, two digits each."""
    return [float(f"{start * 10 ** (rung / TEN):.2g}") for rung in range(-REACH, REACH + 1)]


def choose_training(found: Mapping[int, Mapping[int, float]], seeds: int) -> tuple[int, int] | None:
    """The rung of the ladder and the seed of the next training of a choice.

    Args:
        found: By rung, 0 for the lowest rate, the result of each seed; less is better, infinite where it failed.
        seeds: Number of seeds that the best rate is trained with.

    Returns:
        None where the choice is done, or fails at every rate.
    """
    first = {rung: results[0] for rung, results in found.items() if 0 in results}
    if not first:
        return REACH, 0
    rung = _climb(first)
    if rung is not None:
        return rung, 0
    means = {rung: statistics.fmean(results.values()) for rung, results in found.items()}
    best = min(means, key=lambda rung: means[rung])
    if math.isinf(means[best]):
        return None
    return next(((best, seed) for seed in range(seeds) if seed not in found[best]), None)


def _climb(first: Mapping[int, float]) -> int | None:
    """The next rate of the first seed; None where it is done."""
    best = min(first, key=lambda rung: (first[rung], rung))  # of rates that all fail the lowest
    if math.isfinite(first[best]) and max(first) == best and best + TEN <= 2 * REACH:
        return best + TEN
    if min(first) == best:
        return best - TEN if best - TEN >= 0 else None
    if any(rung % TEN != REACH % TEN for rung in first):
        return None
    sides = [rung for rung in (best - TEN, best + TEN) if rung in first]
    better = min(sides, key=lambda rung: first[rung])
    return (best + better) // 2
