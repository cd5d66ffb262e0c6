"""The intent of an answer: a label written out, or the prediction of a small classifier, which may abstain.

TF-IDF over words and word pairs and a linear support vector machine, fitted on the answers and labels
of the training split; the same rows give the same classifier. Where words alone cannot tell the labels or the answers
apart (``<`` and ``>``, ``C`` and ``C++``, emoji), symbols count as words too. It measures the models and is not itself
under test: its accuracy on the held-out reference answers is the ceiling of intent accuracy.

A classifier has a nearest class for any text, gibberish too. It therefore abstains below a margin (the decision value
of the nearest class) that is measured on the training answers: two thirds of the way from what answers without
meaning reach (the training answers' words drawn at random; 99% of them are below) to what right answers reach that
the classifier was not fitted on (99% are above). With the sample's 12 intents that is 0.42, with 27 of a help desk
(Bitext) 0.47: all reference answers that are classified rightly are above it, and none of 2,160 texts of random
letters, of function words, in other languages or about other subjects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.tables import read_examples
from tasks.corpus.text.labels import LabelReader
from tasks.corpus.text.words import find_words
from tasks.evaluation.items import Item

# More training answers make fitting slower and hardly raise the accuracy.
MAXIMUM_TRAINING_ROWS = 20_000
# Fifths of the rows are held out one after the other until so many answers have measured the margin of right ones.
FOLDS = 5
MEASURED_ANSWERS = 200
MEANINGLESS_ANSWERS = 500
# Fewer words drawn at random may be an answer with a meaning, where answers are the names of labels.
MINIMUM_MEANINGLESS_WORDS = 12
# Share of the meaningless answers below, and of the right ones above, the two ends between which the threshold lies.
COVERED = 0.99
THRESHOLD_POSITION = 2 / 3


@dataclass(frozen=True)
class IntentClassifier:
    """Predicts the intent of answers.

    Attributes:
        labels: Finds the label that an answer names.
        classifier: Fitted scikit-learn pipeline; None where all training answers are blank.
        minimum_margin: Below this decision value of the nearest class the classifier abstains.
        ceiling: Accuracy on the held-out reference answers; None without labelled items.
        figures: Figures to log.
    """

    labels: LabelReader
    classifier: Any | None
    minimum_margin: float
    ceiling: float | None
    figures: dict[str, float]

    def classify(self, answers: Sequence[str]) -> list[str | None]:
        """The intent of each answer; None for an empty one and where the classifier abstains."""
        if not answers:
            return []
        names: list[str | None] = [None] * len(answers)
        if self.classifier is not None:
            margins, nearest = measure_margins(self.classifier, answers)
            pairs = zip(nearest, margins, strict=True)
            names = [name if margin >= self.minimum_margin else None for name, margin in pairs]
        return [
            None if not answer.strip() else self.labels.read(answer) or name
            for answer, name in zip(answers, names, strict=True)
        ]


def fit_intent_classifier(train: Path, items: Sequence[Item]) -> IntentClassifier | None:
    """Fit on the training split and measure the ceiling on the held-out references.

    Args:
        train: Training split, `Example` rows.
        items: Held-out items.

    Returns:
        The classifier, or None when the split has fewer than two labels.
    """
    table = read_examples(train).select(["id", "messages", "label"])
    rows = [row for row in table.to_pylist() if row["label"] is not None]
    rows.sort(key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())
    rows = rows[:MAXIMUM_TRAINING_ROWS]
    names = sorted({row["label"] for row in rows})
    if len(names) < 2:
        return None
    answers = [row["messages"][-1]["content"] for row in rows]
    targets = [row["label"] for row in rows]
    classifier = _fit(answers, targets, names)
    threshold = 0.0 if classifier is None else find_threshold(classifier, answers, targets)
    found = IntentClassifier(LabelReader(names), classifier, threshold, None, {})
    labelled = [item for item in items if item.label is not None]
    predicted = found.classify([item.reference for item in labelled])
    correct = sum(intent == item.label for intent, item in zip(predicted, labelled, strict=True))
    ceiling = correct / len(labelled) if labelled else None
    figures = {"labels": float(len(names)), "rows": float(len(rows)), "minimum_margin": threshold}
    if ceiling is not None:
        figures["ceiling"] = ceiling
    return replace(found, ceiling=ceiling, figures=figures)


def find_threshold(classifier: Any, answers: Sequence[str], labels: Sequence[str]) -> float:
    """The margin below which the classifier abstains, see the top of this file.

    Args:
        classifier: Fitted on all the answers.
        answers: Training answers.
        labels: Their labels.
    """
    low = float(np.quantile(measure_margins(classifier, draw_meaningless(classifier, answers))[0], COVERED))
    margins, names = measure_margins(classifier, answers)
    fitted = margins[names == np.array(labels)]
    # Of few margins the lowest one, so that none of these is below.
    ends = [
        float(np.quantile(right, 1 - COVERED, method="lower"))
        for right in (_margins_of_right(answers, labels), fitted)
        if len(right)
    ]
    high = min(ends, default=low)
    return min(low + THRESHOLD_POSITION * (high - low), high)


def _margins_of_right(answers: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Margins of answers that a classifier fitted on other ones gets right."""
    fold = np.arange(len(answers)) % FOLDS
    found: list[float] = []
    measured = 0
    for number in range(FOLDS):
        fitted, held = (np.flatnonzero(each).tolist() for each in (fold != number, fold == number))
        names = sorted({labels[place] for place in fitted})
        if measured >= MEASURED_ANSWERS or len(names) < 2 or not held:
            break
        classifier = _fit([answers[place] for place in fitted], [labels[place] for place in fitted], names)
        if classifier is None:
            break
        margins, nearest = measure_margins(classifier, [answers[place] for place in held])
        expected = [labels[place] for place in held]
        found += [float(m) for m, name, label in zip(margins, nearest, expected, strict=True) if name == label]
        measured += len(held)
    return found


def draw_meaningless(classifier: Any, answers: Sequence[str]) -> list[str]:
    """Texts of words drawn at random from all training answers, as long as these or of a dozen words."""
    split = classifier[0].build_tokenizer()
    documents = [words for words in map(split, answers) if words] or [[""]]
    pool = [word for words in documents for word in words]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(documents), MEANINGLESS_ANSWERS)
    lengths = [max(len(documents[place]), MINIMUM_MEANINGLESS_WORDS) for place in drawn]
    return [" ".join(pool[place] for place in rng.integers(0, len(pool), length)) for length in lengths]


def measure_margins(classifier: Any, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Decision value of the nearest class, and its label, of each text."""
    values = np.asarray(classifier.decision_function(list(texts)), dtype=np.float64)
    if values.ndim == 1:  # of two classes only the second one's
        values = np.column_stack([-values, values])
    return values.max(axis=1), np.asarray(classifier.classes_)[values.argmax(axis=1)]


def _fit(answers: Sequence[str], labels: Sequence[str], names: Sequence[str]) -> Any | None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    if not any(answer.strip() for answer in answers):
        return None
    words_suffice = all(map(find_words, answers)) and len({tuple(find_words(name)) for name in names}) == len(names)
    # Single characters count as words, because some labels differ only in a digit.
    vectors = TfidfVectorizer(
        tokenizer=find_words if words_suffice else find_words_and_symbols,
        token_pattern=None,
        ngram_range=(1, 2),
        sublinear_tf=True,
    )
    return make_pipeline(vectors, LinearSVC(C=1.0, random_state=0)).fit(answers, labels)


def find_words_and_symbols(text: str) -> list[str]:
    """The words of a text, then each symbol and punctuation mark that stands in it."""
    return [*find_words(text), *re.findall(r"[^\w\s]", text)]
