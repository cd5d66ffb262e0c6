"""How small a difference held-out items can show, known from their number alone.

Two-sided at significance ``alpha`` with the given power, for the share of items that a model answers rightly (Miller,
arXiv:2411.00640, 2024, section 5)::

    detectable = (z(1 - alpha / 2) + z(power)) x sqrt(2 p (1 - p) / n)

at ``p = 0.5``, for two models that err independently of each other: models that are right more often, or err on the
same items, need fewer. Evaluation states the difference again from the answers themselves.

Example:
    24 items: 2.802 x sqrt(0.5 / 24) = 0.404, so an improvement by 40 points of right answers.
    400 items: 0.099. For 0.05 it takes 1,570.
"""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE, POWER = 0.95, 0.8


def detectable_share(items: int, confidence: float = CONFIDENCE, power: float = POWER) -> float:
    """Smallest difference between two shares of right answers that so many items are likely to prove, 0 to 1.

    Args:
        items: Independent items, 1 or more.
        confidence: Confidence level of the interval that has to exclude zero.
        power: Probability of proving a difference of that size.
    """
    factor = NormalDist().inv_cdf(1 - (1 - confidence) / 2) + NormalDist().inv_cdf(power)
    return min(1.0, factor * math.sqrt(0.5 / items))
