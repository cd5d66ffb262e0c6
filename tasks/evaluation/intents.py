"""The intent of an answer: a label written out, or the prediction of a small classifier.

TF-IDF over words and word pairs and a linear support vector machine, fitted on the answers and labels
of the training split; the same rows give the same classifier. Where words alone cannot tell the labels or the answers
apart (``<`` and ``>``, ``C`` and ``C++``, emoji), symbols count as words too. It measures the models and is not itself
under test: its accuracy on the held-out reference answers is the ceiling of intent accuracy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.tables import read_examples
from tasks.corpus.text.labels import LabelReader
from tasks.corpus.text.words import find_words
from tasks.evaluation.items import Item

# More training answers make fitting slower and hardly raise the accuracy.
MAXIMUM_TRAINING_ROWS = 20_000


@dataclass(frozen=True)
class IntentClassifier:
    """Predicts the intent of answers.

    Attributes:
        labels: Finds the label that an answer names.
        classifier: Fitted scikit-learn pipeline; None where all training answers are blank.
        ceiling: Accuracy on the held-out reference answers; None without labelled items.
        figures: Figures to log.
    """

    labels: LabelReader
    classifier: Any | None
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
    table = read_examples(train).select(["id", "messages", "label"])
    rows = [row for row in table.to_pylist() if row["label"] is not None]
    rows.sort(key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())
    rows = rows[:MAXIMUM_TRAINING_ROWS]
    names = sorted({row["label"] for row in rows})
    if len(names) < 2:
        return None
    answers = [row["messages"][-1]["content"] for row in rows]
    classifier = _fit(answers, [row["label"] for row in rows], names)
    labels = LabelReader(names)
    labelled = [item for item in items if item.label is not None]
    predicted = _classify(labels, classifier, [item.reference for item in labelled])
    correct = sum(intent == item.label for intent, item in zip(predicted, labelled, strict=True))
    ceiling = correct / len(labelled) if labelled else None
    figures = {"labels": float(len(names)), "rows": float(len(rows))}
    if ceiling is not None:
        figures["ceiling"] = ceiling
    return IntentClassifier(labels, classifier, ceiling, figures)


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


def _classify(labels: LabelReader, classifier: Any | None, answers: Sequence[str]) -> list[str | None]:
    if not answers:
        return []
    predicted = [None] * len(answers) if classifier is None else classifier.predict(list(answers)).tolist()
    return [
        None if not answer.strip() else labels.read(answer) or intent
        for answer, intent in zip(answers, predicted, strict=True)
    ]
