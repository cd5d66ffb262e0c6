"""A small classifier of labels: TF-IDF of words and pairs of words, and logistic regression by stochastic gradient
descent.

Adversarial variants are generated against it, augmented rows are checked with it, and its predictions for rows outside
its training set identify hard rows and wrong labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.corpus.text.words import find_units


@dataclass(frozen=True)
class LabelClassifier:
    """A fitted classifier.

    Attributes:
        model: A fitted scikit-learn pipeline.
    """

    model: Any

    def predict(self, prompts: Sequence[str]) -> list[str]:
        """The most probable label of each prompt."""
        return [str(label) for label in self.model.predict(list(prompts))] if prompts else []

    def predict_probability(self, prompts: Sequence[str], label: str) -> list[float]:
        """The probability of a label for each prompt."""
        column = list(self.model.classes_).index(label)
        probabilities: list[float] = self.model.predict_proba(list(prompts))[:, column].tolist()
        return probabilities


def make_features() -> Any:
    """The unfitted scikit-learn vectorizer that computes the features of the classifier.

    Texts without words, such as emoji, are taken character by character; it cannot be fitted to blank texts alone.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        tokenizer=find_units, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True, max_features=50_000
    )


def compute_features(texts: Sequence[str]) -> Any:
    """Features of texts, a sparse matrix of texts x features; one feature of zeros where all texts are blank."""
    from scipy.sparse import csr_matrix

    if not any(text.strip() for text in texts):
        return csr_matrix((len(texts), 1))
    return make_features().fit_transform(texts)


def make_classifier(seed: int) -> Any:
    """The unfitted scikit-learn classifier for these features."""
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=8, tol=None, random_state=seed)


def fit_label_classifier(prompts: Sequence[str], labels: Sequence[str | None]) -> LabelClassifier | None:
    """Fit a classifier to the labelled prompts; None when all are blank or have fewer than two distinct labels."""
    from sklearn.pipeline import make_pipeline

    labelled = [(prompt, label) for prompt, label in zip(prompts, labels, strict=True) if label is not None]
    if len({label for _, label in labelled}) < 2 or not any(prompt.strip() for prompt, _ in labelled):
        return None
    model = make_pipeline(make_features(), make_classifier(0))
    model.fit([prompt for prompt, _ in labelled], [label for _, label in labelled])
    return LabelClassifier(model)
