"""Agreement between annotators, corrected for chance.

Cohen's kappa (1960) for each pair of annotators, Krippendorff's alpha over all of them: alpha allows any number of
annotators per text and texts that only some have labelled (Krippendorff 2011, Computing Krippendorff's
Alpha-Reliability). Labels are nominal, any two equally far apart, or numbers, whose distance is that of their squares.
Its interval is a bootstrap over texts.

1 is perfect agreement, 0 is chance; Krippendorff requires 0.8, and 0.667 for tentative conclusions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

RESAMPLES = 2000
SEED = 1997
RELIABLE, TENTATIVE = 0.8, 0.667
Votes = Mapping[str, str]


@dataclass(frozen=True)
class Alpha:
    """Agreement of all annotators.

    Attributes:
        value: Krippendorff's alpha; None where no text has two labels or all labels are the same.
        low: Lower end of the 95% interval.
        high: Upper end.
        texts: Number of texts with two labels or more.
    """

    value: float | None
    low: float | None
    high: float | None
    texts: int


@dataclass(frozen=True)
class LabellerPair:
    """Agreement of two annotators.

    Attributes:
        first: One annotator.
        second: The other.
        texts: Number of texts labelled by both.
        same: Share of them with the same label.
        kappa: Cohen's kappa; None where both always gave the same single label.
    """

    first: str
    second: str
    texts: int
    same: float
    kappa: float | None


def measure_alpha(texts: Sequence[Votes], resamples: int = RESAMPLES, ordered: bool = False) -> Alpha:
    """Krippendorff's alpha.

    Args:
        texts: For each text, annotator to label.
        resamples: Number of bootstrap resamples.
        ordered: Labels are numbers, and near ones disagree less than far ones.
    """
    pairable = [Counter(votes.values()) for votes in texts if len(votes) > 1]
    labels = sorted({label for counts in pairable for label in counts})
    if not pairable:
        return Alpha(None, None, None, 0)
    counts = np.array([[labels_of_text[label] for label in labels] for labels_of_text in pairable], dtype=float)
    sizes = counts.sum(axis=1)
    distances = 1.0 - np.eye(len(labels))
    if ordered:
        numbers = np.array([float(label) for label in labels])
        distances = (numbers[:, None] - numbers) ** 2
    # Per text, the distances of its pairs of labels divided by the number of labels that each one is paired with.
    disagreement = np.einsum("tk,kl,tl->t", counts, distances, counts) / np.maximum(sizes - 1, 1)
    value = _alpha(disagreement.sum(), counts.sum(axis=0), distances)
    if value is None:
        return Alpha(None, None, None, len(pairable))
    rng = np.random.default_rng(SEED)
    replicates = []
    for _ in range(resamples):
        draws = np.bincount(rng.integers(0, len(pairable), len(pairable)), minlength=len(pairable))
        replicate = _alpha(float(draws @ disagreement), draws @ counts, distances)
        if replicate is not None:
            replicates.append(replicate)
    low, high = np.quantile(replicates, [0.025, 0.975]).tolist() if replicates else (None, None)
    return Alpha(value, low, high, len(pairable))


def _alpha(
    disagreement: float,
    totals: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    distances: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> float | None:
    count = float(totals.sum())
    chance = float(totals @ distances @ totals) / (count - 1) if count > 1 else 0.0
    return None if chance == 0 else 1 - float(disagreement) / chance


def measure_pairs(texts: Sequence[Votes]) -> list[LabellerPair]:
    """Agreement of every two annotators with a common text, those with the most texts first."""
    from sklearn.metrics import cohen_kappa_score

    annotators = sorted({name for votes in texts for name in votes})
    pairs = []
    for first, second in combinations(annotators, 2):
        shared = [(votes[first], votes[second]) for votes in texts if first in votes and second in votes]
        if not shared:
            continue
        one, two = [a for a, _ in shared], [b for _, b in shared]
        kappa = float(cohen_kappa_score(one, two)) if len({*one, *two}) > 1 else None
        same = sum(a == b for a, b in shared) / len(shared)
        pairs.append(LabellerPair(first, second, len(shared), same, kappa))
    return sorted(pairs, key=lambda pair: (-pair.texts, pair.first, pair.second))
