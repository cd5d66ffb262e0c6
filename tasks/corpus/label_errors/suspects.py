"""Labels that are probably wrong: confident learning with probabilities from models that have not seen the row.

Each labelled row gets out-of-fold probabilities of all labels: a classifier (TF-IDF of words and logistic regression by
stochastic gradient descent) is cross-validated with five stratified folds, and the predictions of three repetitions are
averaged. A row's score is the predicted probability of its given label (self-confidence, Northcutt et al. 2021); rows
with low scores are suspects.

The score limit is chosen on the data itself. A row's out-of-fold probabilities do not depend on its own label, so the
scores that wrong labels would get are known without a new fit: sample labels that the row does not have, and take their
probabilities. That gives the recall of any limit. The share of rows with a wrong label is at most the minimum over all
limits of the share of suspects divided by the recall (Blanchard et al. 2010), and suspects beyond that share are false
positives. The chosen limit is the largest one within ``recall`` and ``false_positives``.

Confident learning's own rule, another label whose probability reaches the mean of that label's rows, is computed too
and its count is shown. With 1% of the labels of public data sets exchanged it finds 60% to 85% of them, the limit about
95% to 99% at 1% false positives or fewer (``benchmarks/noisy_labels.py``). All this holds for labels that are wrong at
random. Confusions of two similar labels are harder to detect, and a few hundred rows are too few for either.

With ``embedder`` a second classifier (linear discriminant analysis with the shrinkage of Ledoit and Wolf 2004) is
fitted to the vectors, and the geometric mean of both predictions is used (the logarithmic opinion pool of Genest and
Zidek 1986). With the vectors of all-MiniLM-L6-v2 and labels exchanged at random in 1% of the rows, the classifier of
words alone and both classifiers together found

* 55 and 63 of 80 in 764 projects of 4 topics (10 seeds), at 2.0% and 1.2% of the right labels suspected,
* 289 and 291 of 300 in 10,003 requests of 77 intents (3 seeds), at 1.03% and 0.94%,
* 191 and 191 of 192 in 6,378 requests of 27 intents (3 seeds), at 0.04% and 0.02%.

So a sentence model is worth its time on small data sets; on large ones the words suffice. TF-IDF vectors improved
nothing over the words in any of them.
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
from tasks.corpus.label_classifier import compute_features, make_classifier
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.threads import on_one_thread

Array = np.ndarray[Any, Any]

FOLDS = 5

REPEATS = 3

# Added to probabilities before their geometric mean, so that one zero does not decide alone.
PROBABILITY_FLOOR = 1e-6

# Wrong labels sampled per row, to estimate the scores of wrong labels.
SAMPLED_WRONG_LABELS = 20

# Limits with less recall select too few rows to estimate the share of wrong labels.
MIN_LIMIT_RECALL = 0.6

# Above this estimate the texts do not separate the labels, and no row is suspected.
MAX_WRONG_SHARE = 0.3

STEP = "noisy labels"

REASON = "label looks wrong, more like "


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is probably wrong, ordered by the probability of the given label, lowest first.

    Attributes:
        places: Row numbers of the suspects.
        suggested: The likeliest other label of each.
        given: Predicted probability of its given label.
        other: Predicted probability of the suggested label.
        judged: Number of rows with a prediction.
        recall: Estimated share of randomly wrong labels that are among the suspects.
        false_positives: Estimated share of right labels that are among the suspects.
        wrong: Upper estimate of the share of wrong labels.
        confident: Number of rows that confident learning's own rule selects.
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

    Rows of labels with fewer than five rows, and rows without a label, are left out.

    Args:
        texts: One per row.
        labels: One per row, None for an unlabelled row.
        settings: Limits and seed.

    Raises:
        PipelineError: Fewer than two labels have enough rows, or all texts are blank.
    """
    counts = Counter(label for label in labels if label is not None)
    classes = sorted(label for label, count in counts.items() if count >= FOLDS)
    if len(classes) < 2:
        raise PipelineError(
            f"noise: {len(classes)} labels have {FOLDS} rows or more, and two are needed to find wrong ones; "
            "label more rows, or remove data_preparation.noise"
        )
    class_index = {label: number for number, label in enumerate(classes)}
    judged = np.array([row for row, label in enumerate(labels) if label in class_index], dtype=np.int64)
    truth = np.array([class_index[str(labels[row])] for row in judged.tolist()], dtype=np.int64)
    probabilities = cross_fit([texts[row] for row in judged.tolist()], truth, settings.seed, settings.embedder)
    rows = np.arange(len(truth))
    self_confidence = probabilities[rows, truth]
    limit, recall, false_positives, wrong_share = choose_limit(
        self_confidence, _sample_wrong_label_scores(probabilities, truth, settings.seed), settings
    )
    other_probabilities = probabilities.copy()
    other_probabilities[rows, truth] = -1
    likeliest_other = other_probabilities.argmax(axis=1)
    suspect = (self_confidence <= limit) & (other_probabilities.max(axis=1) > self_confidence)
    order = np.flatnonzero(suspect)[np.argsort(self_confidence[suspect], kind="stable")]
    return Suspects(
        judged[order].tolist(),
        [classes[number] for number in likeliest_other[order].tolist()],
        self_confidence[order].tolist(),
        other_probabilities[order, likeliest_other[order]].tolist(),
        len(judged),
        recall,
        false_positives,
        wrong_share,
        int(find_confident(probabilities, truth).sum()),
    )


@on_one_thread
def cross_fit(texts: Sequence[str], truth: Array, seed: int, embedder: AnyEmbedder | None = None) -> Array:
    """Out-of-fold probabilities of the labels, shape (rows, labels): predicted by models not fitted to that row.

    Args:
        texts: One per row.
        truth: Class number of each row's label, from 0, each at least five times.
        seed: Of the folds and the classifier.
        embedder: Computes the vectors for a second classifier; None uses the words alone.

    Raises:
        PipelineError: All texts are blank.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features = compute_features(texts)
    if not features.nnz:
        raise PipelineError("noise: all labelled texts are blank; remove data_preparation.noise")
    probabilities = _predict_out_of_fold(features, truth, seed, make_classifier)
    if embedder is None:
        return probabilities
    lda = partial(LinearDiscriminantAnalysis, solver="lsqr", shrinkage="auto")
    vector_probabilities = _predict_out_of_fold(embedder.embed(texts, seed), truth, seed, lambda _: lda())
    pooled: Array = np.sqrt((probabilities + PROBABILITY_FLOOR) * (vector_probabilities + PROBABILITY_FLOOR))
    pooled /= pooled.sum(axis=1, keepdims=True)
    return pooled


def _predict_out_of_fold(features: Any, truth: Array, seed: int, make_model: Callable[[int], Any]) -> Array:
    probabilities = np.zeros((len(truth), int(truth.max()) + 1))
    for repeat_seed in range(seed, seed + REPEATS):
        folds = assign_folds(truth, repeat_seed)
        for fold in range(FOLDS):
            model = make_model(repeat_seed).fit(features[folds != fold], truth[folds != fold])
            probabilities[np.ix_(folds == fold, model.classes_)] += model.predict_proba(features[folds == fold])
    return probabilities / REPEATS


def assign_folds(truth: Array, seed: int) -> Array:
    """The fold of each row, stratified by label."""
    folds = np.empty(len(truth), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for number in range(int(truth.max()) + 1):
        members = np.flatnonzero(truth == number)
        folds[rng.permutation(members)] = (np.arange(len(members)) + number) % FOLDS
    return folds


def _sample_wrong_label_scores(probabilities: Array, truth: Array, seed: int) -> Array:
    """Predicted probabilities of randomly sampled labels that the rows do not have."""
    rng = np.random.default_rng(seed + 1)
    offsets = rng.integers(
        1, probabilities.shape[1], (len(truth), min(SAMPLED_WRONG_LABELS, probabilities.shape[1] - 1))
    )
    scores: Array = np.take_along_axis(
        probabilities, (truth[:, None] + offsets) % probabilities.shape[1], axis=1
    ).ravel()
    return scores


def choose_limit(scores: Array, wrong_scores: Array, settings: Noise) -> tuple[float, float, float, float]:
    """The largest score at which a row is a suspect.

    Args:
        scores: Predicted probability of the given label, one per row.
        wrong_scores: Predicted probabilities of sampled wrong labels.
        settings: Bounds on recall and false positives.

    Returns:
        The limit (below zero: no row is a suspect), its recall, its share of false positives among the right labels,
        and an upper estimate of the share of wrong labels.
    """
    limits, counts = np.unique(scores, return_counts=True)
    suspected = np.cumsum(counts) / len(scores)
    wrong_scores = np.sort(wrong_scores)
    # Raising the limit up to just below the next score selects no further row but raises the recall.
    recall = np.searchsorted(wrong_scores, np.append(limits[1:], np.inf)) / len(wrong_scores)
    reliable = recall >= MIN_LIMIT_RECALL
    wrong_share = float(np.min(suspected[reliable] / recall[reliable], initial=1.0))
    false_positives = np.clip((suspected - recall * wrong_share) / max(1 - wrong_share, 1e-9), 0, 1)
    recall_at_limit = np.searchsorted(wrong_scores, limits, side="right") / len(wrong_scores)
    allowed = np.flatnonzero((false_positives <= settings.false_positives) & (recall_at_limit <= settings.recall))
    if not len(allowed) or wrong_share > MAX_WRONG_SHARE:
        return -1.0, 0.0, 0.0, wrong_share
    chosen = int(allowed[-1])
    return float(limits[chosen]), float(recall[chosen]), float(false_positives[chosen]), wrong_share


def find_confident(probabilities: Array, truth: Array) -> Array:
    """Which rows lie off the diagonal of the confident joint (Northcutt et al. 2021, section 3.1)."""
    classes = probabilities.shape[1]
    means = np.bincount(truth, probabilities[np.arange(len(truth)), truth], classes) / np.bincount(
        truth, minlength=classes
    )
    confident = np.where(probabilities >= means, probabilities, -1)
    off_diagonal: Array = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != truth)
    return off_diagonal
