"""Rows whose gradient points where the validation rows need it: a proxy of influence.

The influence of a row on the validation loss is, to first order, the product of its gradient with theirs, summed over
the steps of training (TracIn, Pruthi et al. 2020). Here both are the gradients of a proxy, a linear classifier on
embeddings of the prompts, trained by plain gradient descent (LESS, Xia et al. 2024, does the same with a language
model). It sees validation rows, never test rows.

Good for: finding rows that pull the wrong way, such as wrong labels, by keeping most of the rows. At a small share it
takes many rows that say the same. Compare it with ``random`` on the data at hand.

Example: ``{name: influence, embedder: {name: tfidf, dimensions: 64}}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf

if TYPE_CHECKING:
    from tasks.data_preparation.trainset.pruning.pool import Array, Pool

STEPS = 30
# For vectors of length 1 gradient descent on the cross-entropy is stable up to 4.
RATE = 2.0


class Influence(Section):
    """By the gradient of the validation loss."""

    name: Literal["influence"] = "influence"
    embedder: AnyEmbedder = Field(default=Tfidf(), description="what makes vectors of prompts")

    def score(self, pool: Pool) -> Array:
        """A number per row; those with the largest stay.

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
        wanted = np.array([place[str(pool.validation_labels[row])] for row in known])
        texts = [*pool.prompts, *(pool.validation_prompts[row] for row in known)]
        points = self.embedder.embed(texts, pool.seed).astype(np.float64)
        points, held = points[: len(truth)], points[len(truth) :]
        return trace_influence(points, truth, held, wanted, len(classes))


def trace_influence(points: Array, truth: Array, held: Array, wanted: Array, classes: int) -> Array:
    """Sum over the steps of training of the product of each row's gradient with that of the held-out rows.

    Args:
        points: Vectors of the training rows, of length about 1.
        truth: Their classes.
        held: Vectors of the held-out rows.
        wanted: Their classes.
        classes: How many classes there are.
    """
    import numpy as np

    weights = np.zeros((classes, points.shape[1]))
    scores = np.zeros(len(points))
    for _ in range(STEPS):
        own = measure_errors(points, truth, weights)
        needed = measure_errors(held, wanted, weights).T @ held / len(held)
        # <error x point, needed>, without writing out the outer products.
        scores += RATE * np.einsum("nc,nc->n", own, points @ needed.T)
        weights -= RATE * own.T @ points / len(points)
    return scores


def measure_errors(points: Array, truth: Array, weights: Array) -> Array:
    """Probabilities minus truth: the gradient of the cross-entropy by the scores of the classes."""
    import numpy as np

    scores = points @ weights.T
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(truth)), truth] -= 1
    errors: Array = chances
    return errors
