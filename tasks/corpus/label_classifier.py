"""A small classifier of labels: TF-IDF of words and pairs of words, and logistic regression by stochastic gradient
descent.

Attacks aim at it, variants of rows are held against it, and what it says of rows it has not seen tells hard rows and
wrong labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.corpus.text.words import WORD


@dataclass(frozen=True)
class LabelReader:
    """A fitted classifier.

    Attributes:
        model: A fitted scikit-learn pipeline.
    """

    model: Any

    def read(self, prompts: Sequence[str]) -> list[str]:
        """The likeliest label of each prompt."""
        return [str(label) for label in self.model.predict(list(prompts))] if prompts else []

    def measure(self, prompts: Sequence[str], label: str) -> list[float]:
        """The probability of a label for each prompt."""
        column = list(self.model.classes_).index(label)
        found: list[float] = self.model.predict_proba(list(prompts))[:, column].tolist()
        return found


def make_features() -> Any:
    """The vectorizer of scikit-learn that gives the classifier its features."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=50_000)


def make_classifier(seed: int) -> Any:
    """The classifier of scikit-learn, which is still to be fitted to such features."""
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=8, tol=None, random_state=seed)


def fit_reader(prompts: Sequence[str], labels: Sequence[str | None]) -> LabelReader | None:
    """A classifier of the labelled prompts; None when they have fewer than two labels."""
    from sklearn.pipeline import make_pipeline

    known = [(prompt, label) for prompt, label in zip(prompts, labels, strict=True) if label is not None]
    if len({label for _, label in known}) < 2:
        return None
    model = make_pipeline(make_features(), make_classifier(0))
    model.fit([prompt for prompt, _ in known], [label for _, label in known])
    return LabelReader(model)
