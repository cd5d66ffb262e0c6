"""The intent of an answer: a label written out, or the prediction of a small classifier.

TF-IDF over words and word pairs and a linear support vector machine, fitted on the answers and labels
of the training split; the same rows give the same classifier. It measures the models and is not itself under test:
its accuracy on the held-out reference answers is the ceiling of intent accuracy.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.records import EXAMPLES
from tasks.contracts.tables import read_table
from tasks.evaluation.items import Item

# More training answers make fitting slower and hardly raise the accuracy.
MAXIMUM_TRAINING_ROWS = 20_000


@dataclass(frozen=True)
class IntentClassifier:
    """Predicts the intent of answers.

    Attributes:
        labels: Normalised spelling of a label to the label.
        classifier: Fitted scikit-learn pipeline.
        ceiling: Accuracy on the held-out reference answers; None without labelled items.
        figures: Figures to log.
    """

    labels: dict[str, str]
    classifier: Any
    ceiling: float | None
    figures: dict[str, float]

    def classify(self, answers: Sequence[str]) -> list[str | None]:
        """The intent of each answer; None for an empty one."""
        return _classify(self.labels, self.classifier, answers)


def fit_intent_classifier(train: Path, items: Sequence[Item]) -> IntentClassifier | None:
    """Fit on the training split and measure the ceiling on the held-out references.

    Args:
        train: Training split, `Example` rows.
        items: Held-out items.

    Returns:
        The classifier, or None when the split has fewer than two labels.
    """
    table = read_table(train, EXAMPLES).select(["id", "messages", "label"])
    rows = [row for row in table.to_pylist() if row["label"] is not None]
    if len({row["label"] for row in rows}) < 2:
        return None
    rows.sort(key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())
    rows = rows[:MAXIMUM_TRAINING_ROWS]
    classifier = _make_classifier()
    classifier.fit([row["messages"][-1]["content"] for row in rows], [row["label"] for row in rows])
    labels = {spelling: label for label in sorted({r["label"] for r in rows}) for spelling in _spellings(label)}
    labelled = [item for item in items if item.label is not None]
    predicted = _classify(labels, classifier, [item.reference for item in labelled])
    correct = sum(intent == item.label for intent, item in zip(predicted, labelled, strict=True))
    ceiling = correct / len(labelled) if labelled else None
    figures = {"labels": float(len({row["label"] for row in rows})), "rows": float(len(rows))}
    if ceiling is not None:
        figures["ceiling"] = ceiling
    return IntentClassifier(labels, classifier, ceiling, figures)


def _make_classifier() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    # Single characters count as words, because some labels differ only in a digit.
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return make_pipeline(vectors, LinearSVC(C=1.0, random_state=0))


def _classify(labels: dict[str, str], classifier: Any, answers: Sequence[str]) -> list[str | None]:
    if not answers:
        return []
    predicted = classifier.predict(list(answers)).tolist()
    return [
        None if not answer.strip() else labels.get(_normalise(answer), str(intent))
        for answer, intent in zip(answers, predicted, strict=True)
    ]


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split()).strip(string.punctuation + " ")


def _spellings(label: str) -> tuple[str, str]:
    return _normalise(label), _normalise(label.replace("_", " ").replace("-", " "))
