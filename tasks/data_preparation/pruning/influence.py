"""Rows whose gradient points where the validation rows need it: a proxy of influence.

The influence of a row on the validation loss is, to first order, the product of its gradient with theirs (TracIn,
Pruthi et al. 2020). Here both are the gradients of the last layer of a proxy, a classifier on embeddings of the
prompts (LESS, Xia et al. 2024, does the same with a language model). The classifier is cross-fitted, so that no row is
judged by a proxy that learned it by heart. It only sees validation rows, never test rows.

The score looks at gradients one by one: at a small share it takes many rows that say the same. Compare it with
``random`` on the data at hand.

Example: ``{name: influence, embedder: {name: tfidf, dimensions: 64}}``
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.data_preparation.embedders import AnyEmbedder
from tasks.data_preparation.embedders.tfidf import Tfidf
from tasks.data_preparation.pruning.pool import Array, Pool, code_labels

PARTS = 5


class Influence(Section):
    """By the gradient of the validation loss."""

    name: Literal["influence"] = "influence"
    embedder: AnyEmbedder = Field(default=Tfidf(), description="what makes vectors of prompts")

    def score(self, pool: Pool) -> Array:
        """A number per row; those with the largest stay.

        Raises:
            PipelineError: Rows without labels, or no validation row of a label that is trained.
        """
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
        points = np.hstack([self.embedder.embed(texts, pool.seed), np.ones((len(texts), 1))])
        points, held = points[: len(truth)], points[len(truth) :]
        parts = np.random.default_rng(pool.seed).permutation(np.arange(len(truth)) % PARTS)
        scores = np.zeros(len(truth))
        for part in range(PARTS):
            fit, rest = parts != part, parts == part
            if len(np.unique(truth[fit])) < 2 or not rest.any():
                continue
            weights = _fit(points[fit], truth[fit], len(classes), pool.seed)
            needed = _errors(held, wanted, weights).T @ held / len(held)
            own = _errors(points[rest], truth[rest], weights)
            # <error x point, needed>, without writing out the outer products.
            scores[rest] = np.einsum("nc,nc->n", own, points[rest] @ needed.T)
        return scores


def _fit(points: Array, truth: Array, classes: int, seed: int) -> Array:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(
        loss="log_loss", alpha=1e-4, max_iter=8, tol=None, random_state=seed, fit_intercept=False
    ).fit(points, truth)
    weights = np.full((classes, points.shape[1]), 0.0)
    if len(model.classes_) == 2:
        weights[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
    else:
        weights[model.classes_] = model.coef_
    return weights


def _errors(points: Array, truth: Array, weights: Array) -> Array:
    scores = points @ weights.T
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(truth)), truth] -= 1
    errors: Array = chances
    return errors
