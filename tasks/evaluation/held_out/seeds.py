"""Whether an improvement holds with other training seeds, or is the luck of one.

With ``evaluation.training_seeds: 3`` two more models are trained like the candidate, with the next two seeds, and
answer the same items. The verdict is about the training with these params: the difference is that of the mean over the
seeds, and its interval has both sources of chance in it. The items' part is the paired bootstrap's of the mean over the
seeds ``[l, u]``; the seeds' is Student's, ``h = t(S - 1) s / sqrt(S)`` with ``s`` the standard deviation of the S
differences. They are joined as independent parts (MOVER: Zou and Donner, Statistics in Medicine 2008)::

    [d - sqrt((d - l)^2 + h^2),  d + sqrt((u - d)^2 + h^2)]

What is released is the candidate, the first of the seeds. Reimers and Gurevych, "Reporting Score Distributions Makes a
Difference", EMNLP 2017, and Dodge et al., arXiv:2002.06305, 2020: seeds alone move scores of fine-tuned models by more
than many published improvements.

Example:
    Differences 0.06, 0.04 and 0.05 on items that alone give [0.03, 0.07]: d = 0.05, s = 0.01, t(2) = 4.30, h = 0.025,
    so [0.018, 0.082]. Two seeds have t(1) = 12.7, with which hardly anything is proven.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from tasks.evaluation.comparison import Comparison, SeedSpread
from tasks.evaluation.metrics.metric import Scores


def average_scores(scores: Sequence[Scores]) -> Scores:
    """The mean over models of the score of each item, which have weight on the same items."""
    first = scores[0]
    tally = first.tally
    if tally is not None:
        counts = np.mean([one.tally.counts for one in scores if one.tally is not None], axis=0)
        tally = replace(tally, counts=counts)
    return Scores(np.mean([one.values for one in scores], axis=0), first.weights, tally)


def join_seeds(items: Comparison, differences: Sequence[float], confidence: float, power: float) -> Comparison:
    """A comparison of the mean over seeds, with the chance of the seeds in its interval.

    Args:
        items: The comparison, whose interval is that of the items alone.
        differences: That of each seed.
        confidence: Level of the interval.
        power: Power at which the smallest detectable difference is stated.
    """
    from scipy.special import stdtrit

    count, deviation = len(differences), float(np.std(differences, ddof=1))
    error = deviation / math.sqrt(count)
    half = float(-stdtrit(count - 1, (1 - confidence) / 2)) * error
    factor = NormalDist().inv_cdf(1 - (1 - confidence) / 2) + NormalDist().inv_cdf(power)
    return items.model_copy(
        update={
            "low": items.difference - math.hypot(items.difference - items.low, half),
            "high": items.difference + math.hypot(items.high - items.difference, half),
            "detectable": math.hypot(items.detectable, factor * error),
            "seeds": SeedSpread(differences=list(differences), deviation=deviation, low=items.low, high=items.high),
        }
    )
