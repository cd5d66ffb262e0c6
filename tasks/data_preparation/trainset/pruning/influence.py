"""Selects rows whose gradient reduces the validation loss: a proxy of influence.

The influence of a row on the validation loss is, to first order, the dot product of its gradient with that of the
validation rows, summed over the training steps (TracIn, Pruthi et al. 2020). Here both are the
gradients of a proxy, a linear classifier on embeddings of the prompts, trained by plain gradient descent (LESS, Xia et
al. 2024, does the same with a language model). It uses validation rows, never test rows.

Good for: removing harmful rows, such as mislabelled ones, while keeping most of the rows. With a small share it selects
many redundant rows. Compare it with ``random`` on your data.

Example: ``{name: influence, embedder: {name: tfidf, dimensions: 64}}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.threads import on_one_thread

if TYPE_CHECKING:
    from tasks.data_preparation.trainset.pruning.pool import Array, Pool

GRADIENT_STEPS = 30
# For vectors of length 1 gradient descent on the cross-entropy is stable up to 4.
LEARNING_RATE = 2.0


class Influence(Section):
    """By the gradient of the validation loss."""

    name: Literal["influence"] = "influence"
    embedder: AnyEmbedder = Field(default=Tfidf(), description="model that embeds the prompts")

    @on_one_thread
    def score(self, pool: Pool) -> Array:
        """A score per row; the rows with the highest are kept.

        Raises:
            PipelineError: Rows without labels, or no validation row of a label that is trained.
        """
        import numpy as np

        from tasks.data_preparation.trainset.pruning.pool import code_labels

        classes, truth = code_labels("influence", pool)
        place = {label: number for number, label in enumerate(classes)}
        known = [row for row, label in enumerate(pool.validation_labels) if label in place]
        if not known:
            raise PipelineError(
                "pruning by influence: no validation row has a label that is trained; "
                "raise data_preparation.split.validation or take another method"
            )
        validation_truth = np.array([place[str(pool.validation_labels[row])] for row in known])
        texts = [*pool.prompts, *(pool.validation_prompts[row] for row in known)]
        points = self.embedder.embed(texts, pool.seed).astype(np.float64)
        points, validation_points = points[: len(truth)], points[len(truth) :]
        return trace_influence(points, truth, validation_points, validation_truth, len(classes))


def trace_influence(
    points: Array, truth: Array, validation_points: Array, validation_truth: Array, classes: int
) -> Array:
    """Sum over the training steps of the dot product of each row's gradient with that of the validation rows.

    Args:
        points: Embeddings of the training rows, of about unit length.
        truth: Their classes.
        validation_points: Embeddings of the validation rows.
        validation_truth: Their classes.
        classes: How many classes there are.
    """
    import numpy as np

    weights = np.zeros((classes, points.shape[1]))
    scores = np.zeros(len(points))
    for _ in range(GRADIENT_STEPS):
        train_errors = measure_errors(points, truth, weights)
        validation_gradient = (
            measure_errors(validation_points, validation_truth, weights).T @ validation_points / len(validation_points)
        )
        # <outer(error, point), validation_gradient> per row, without computing the outer products.
        scores += LEARNING_RATE * np.einsum("nc,nc->n", train_errors, points @ validation_gradient.T)
        weights -= LEARNING_RATE * train_errors.T @ points / len(points)
    return scores


def measure_errors(points: Array, truth: Array, weights: Array) -> Array:
    """Probabilities minus truth: the gradient of the cross-entropy by the scores of the classes."""
    import numpy as np

    scores = points @ weights.T
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(truth)), truth] -= 1
    errors: Array = probabilities
    return errors
