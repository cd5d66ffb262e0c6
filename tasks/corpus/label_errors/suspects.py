"""Labels that are probably wrong: confident learning with probabilities from models that have not seen the row.

Each labelled row gets probabilities of all labels out of fold: a classifier (TF-IDF of words and logistic regression by
stochastic gradient descent) cross-fitted in five stratified parts, the mean of three such divisions. A row's score is
the probability of the label it has (self-confidence, Northcutt et al. 2021); low scores are suspect.

How low is decided on the data itself. A row's probabilities do not depend on its own label, so the scores that wrong
labels would get are known without a new fit: look up labels at random that the row does not have. That gives, for any
limit, the share of wrong labels it finds. What share of the rows has a wrong label is bounded by the least quotient of
rows found and recall over the limits (Blanchard et al. 2010), and what is found beyond that share is false. The limit
is the largest one within ``recall`` and ``false_positives``.

Confident learning's own rule, a label whose probability reaches the mean of that label's rows, is computed too and its
count is shown. With 1% of the labels of public sets exchanged it finds 60% to 85% of them, the limit about 95% to 99%
at 1% false positives or fewer (``benchmarks/noisy_labels.py``). All this holds for labels that are wrong at random.
Confusions of two labels that are alike are harder to see, and a few hundred rows are too few for either.

With ``embedder`` a second classifier (linear discriminant analysis with the shrinkage of Ledoit and Wolf 2004) reads
the vectors, and the geometric mean of both counts (the logarithmic opinion pool of Genest and Zidek 1986). With the
vectors of all-MiniLM-L6-v2, of labels exchanged at random in 1% of the rows, the words found, and both together,

* 55 and 63 of 80 in 764 projects of 4 topics (10 seeds), at 2.0% and 1.2% of the right labels suspected,
* 289 and 291 of 300 in 10,003 requests of 77 intents (3 seeds), at 1.03% and 0.94%,
* 191 and 191 of 192 in 6,378 requests of 27 intents (3 seeds), at 0.04% and 0.02%.

So a sentence model is worth its time where rows are few; where they are many the words do. Vectors of TF-IDF add
nothing to the words in any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.label_classifier import make_classifier, make_features
from tasks.corpus.label_errors.params import Noise

Array = np.ndarray[Any, Any]

PARTS = 5

DIVISIONS = 3

# Below this a probability tells nothing more.
LEAST = 1e-6

# Wrong labels looked up for each row.
LOOKED_UP = 20

# Limits of less recall find too few rows to say how many labels are wrong.
TELLING = 0.6

# Above this estimate the texts do not tell the labels apart, and nothing is suspected.
MOST_WRONG = 0.3

STEP = "noisy labels"

REASON = "label looks wrong, more like "


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is probably wrong, the surest first.

    Attributes:
        places: Their places among the rows.
        suggested: The likeliest other label of each.
        given: Probability of the label it has.
        other: Probability of the suggested one.
        judged: Rows that could be judged.
        recall: Estimated share of labels wrong at random that are found.
        false_positives: Estimated share of right labels that are found.
        wrong: Upper estimate of the share of wrong labels.
        confident: Rows that confident learning's own rule finds.
    """

    places: list[int]
    suggested: list[str]
    given: list[float]
    other: list[float]
    judged: int
    recall: float
    false_positives: float
    wrong: float
    confident: int


def find_suspects(texts: Sequence[str], labels: Sequence[str | None], settings: Noise) -> Suspects:
    """Rows whose label is probably wrong.

    A label needs five rows to be judged; rows of rarer ones, and rows without, are left out.

    Args:
        texts: Of the rows.
        labels: Of the rows.
        settings: Limits and seed.

    Raises:
        PipelineError: Fewer than two labels have enough rows, or no text has a word.
    """
    counts = Counter(label for label in labels if label is not None)
    classes = sorted(label for label, count in counts.items() if count >= PARTS)
    if len(classes) < 2:
        raise PipelineError(
            f"noise: {len(classes)} labels have {PARTS} rows or more, and two are needed to tell a wrong one; "
            "label more rows, or take data_preparation.noise out"
        )
    place = {label: number for number, label in enumerate(classes)}
    judged = np.array([row for row, label in enumerate(labels) if label in place], dtype=np.int64)
    truth = np.array([place[str(labels[row])] for row in judged.tolist()], dtype=np.int64)
    guess = cross_fit([texts[row] for row in judged.tolist()], truth, settings.seed, settings.embedder)
    rows = np.arange(len(truth))
    score = guess[rows, truth]
    limit, recall, false, wrong = choose_limit(score, _look_up_wrong(guess, truth, settings.seed), settings)
    rivals = guess.copy()
    rivals[rows, truth] = -1
    best = rivals.argmax(axis=1)
    suspect = (score <= limit) & (rivals.max(axis=1) > score)
    order = np.flatnonzero(suspect)[np.argsort(score[suspect], kind="stable")]
    return Suspects(
        judged[order].tolist(),
        [classes[number] for number in best[order].tolist()],
        score[order].tolist(),
        rivals[order, best[order]].tolist(),
        len(judged),
        recall,
        false,
        wrong,
        int(find_confident(guess, truth).sum()),
    )


def cross_fit(texts: Sequence[str], truth: Array, seed: int, embedder: AnyEmbedder | None = None) -> Array:
    """Probabilities of the labels of each row, by models that have not seen its label.

    Args:
        texts: Of the rows.
        truth: Place of each row's label, from 0, each at least five times.
        seed: Of the parts and the classifier.
        embedder: What makes vectors for a second classifier; None takes the words alone.

    Raises:
        PipelineError: No text has a word.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    try:
        features = make_features().fit_transform(texts)
    except ValueError as error:
        raise PipelineError("noise: no labelled text has a word; take data_preparation.noise out") from error
    guess = _fit_parts(features, truth, seed, make_classifier)
    if embedder is None:
        return guess
    lda = partial(LinearDiscriminantAnalysis, solver="lsqr", shrinkage="auto")
    second = _fit_parts(embedder.embed(texts, seed), truth, seed, lambda _: lda())
    pooled: Array = np.sqrt((guess + LEAST) * (second + LEAST))
    pooled /= pooled.sum(axis=1, keepdims=True)
    return pooled


def _fit_parts(features: Any, truth: Array, seed: int, make: Callable[[int], Any]) -> Array:
    guess = np.zeros((len(truth), int(truth.max()) + 1))
    for division in range(seed, seed + DIVISIONS):
        parts = cut_parts(truth, division)
        for part in range(PARTS):
            model = make(division).fit(features[parts != part], truth[parts != part])
            guess[np.ix_(parts == part, model.classes_)] += model.predict_proba(features[parts == part])
    return guess / DIVISIONS


def cut_parts(truth: Array, seed: int) -> Array:
    """Per row the part it is in, each label spread evenly over all."""
    parts = np.empty(len(truth), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for number in range(int(truth.max()) + 1):
        members = np.flatnonzero(truth == number)
        parts[rng.permutation(members)] = (np.arange(len(members)) + number) % PARTS
    return parts


def _look_up_wrong(guess: Array, truth: Array, seed: int) -> Array:
    """Scores that rows would have under labels they do not have."""
    rng = np.random.default_rng(seed + 1)
    steps = rng.integers(1, guess.shape[1], (len(truth), min(LOOKED_UP, guess.shape[1] - 1)))
    looked: Array = np.take_along_axis(guess, (truth[:, None] + steps) % guess.shape[1], axis=1).ravel()
    return looked


def choose_limit(score: Array, wrong: Array, settings: Noise) -> tuple[float, float, float, float]:
    """Up to which score a label is suspect.

    Args:
        score: Of the rows.
        wrong: Scores that wrong labels get.
        settings: What limits it.

    Returns:
        The limit (below zero: none is suspect), the share of wrong labels it finds, that of right ones, and an upper
        estimate of the share of wrong labels.
    """
    limits, places = np.unique(score, return_counts=True)
    found = np.cumsum(places) / len(score)
    wrong = np.sort(wrong)
    # Up to the next score a higher limit finds no further row, but more of what might be wrong.
    recall = np.searchsorted(wrong, np.append(limits[1:], np.inf)) / len(wrong)
    telling = recall >= TELLING
    share = float(np.min(found[telling] / recall[telling], initial=1.0))
    false = np.clip((found - recall * share) / max(1 - share, 1e-9), 0, 1)
    enough = np.searchsorted(wrong, limits, side="right") / len(wrong)
    allowed = np.flatnonzero((false <= settings.false_positives) & (enough <= settings.recall))
    if not len(allowed) or share > MOST_WRONG:
        return -1.0, 0.0, 0.0, share
    last = int(allowed[-1])
    return float(limits[last]), float(recall[last]), float(false[last]), share


def find_confident(guess: Array, truth: Array) -> Array:
    """Which rows lie beside the diagonal of the confident joint (Northcutt et al. 2021, section 3.1)."""
    size = guess.shape[1]
    means = np.bincount(truth, guess[np.arange(len(truth)), truth], size) / np.bincount(truth, minlength=size)
    confident = np.where(guess >= means, guess, -1)
    beside: Array = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != truth)
    return beside
