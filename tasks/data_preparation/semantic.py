"""Semantic duplicates: rows whose prompts and answers mean the same, by the cosine of their embeddings.

The procedure is that of SemDeDup (Abbas et al. 2023): the vectors are put into clusters by k-means and compared
inside each. Up to `EXACT` rows all are compared with all. The earlier of two duplicates stays.

The default thresholds are for the default embedder: at a cosine of 0.95 of the prompts, 96% to 99.7% of the pairs that
near duplicates do not cover already had the same intent in three public sets of customer requests; with words in place
of characters 81% to 82%. Another embedder wants thresholds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.embedders import AnyEmbedder
from tasks.data_preparation.embedders.tfidf import Tfidf
from tasks.data_preparation.similarity import Alike, Recall, read_numbers

Array = np.ndarray[Any, Any]

EXACT = 20_000
BLOCK = 1_000
# Rows of a cluster of k-means, on average.
CLUSTER = 2_000


class Closeness(Section):
    """Two rows mean the same when both cosines are reached."""

    prompts: float = Field(gt=0, le=1, description="cosine of the prompts")
    answers: float = Field(gt=0, le=1, description="cosine of the answers")


class Semantic(Section):
    """How semantic duplicates are found."""

    embedder: AnyEmbedder = Field(default=Tfidf(unit="characters"), description="what makes vectors of texts")
    same: Closeness = Field(
        default=Closeness(prompts=0.95, answers=0.95), description="from here on two rows are the same"
    )
    leak: Closeness = Field(
        default=Closeness(prompts=0.95, answers=0.9),
        description="from here on two rows may not be in different splits",
    )
    seed: int = Field(default=0, description="of the embedder and of k-means")


def find_same_meaning(
    prompts: Sequence[str], answers: Sequence[str], settings: Semantic, closeness: Closeness, numbers: bool
) -> Alike:
    """Pairs of rows that mean the same; ``rows`` are the cosines of the answers.

    Args:
        prompts: User texts, one per row.
        answers: Assistant texts, one per row.
        settings: Embedder and seed.
        closeness: Least cosines.
        numbers: Whether rows with different numbers are different.
    """
    asked = settings.embedder.embed(prompts, settings.seed)
    said = settings.embedder.embed(answers, settings.seed)
    found = [_compare(asked, block, others, closeness.prompts) for block, others in _blocks(asked, settings.seed)]
    pairs = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)
    pairs = np.unique(pairs, axis=0)
    cosines = np.einsum("ij,ij->i", said[pairs[:, 0]], said[pairs[:, 1]])
    # Answers without words have no direction; they are the same when their texts are.
    same_text = np.array([answers[a] == answers[b] for a, b in pairs.tolist()], dtype=bool)
    cosines = np.where(same_text, 1.0, cosines)
    stays = cosines >= closeness.answers
    if numbers:
        read = [read_numbers(f"{p}\n{a}") for p, a in zip(prompts, answers, strict=True)]
        stays &= np.array([read[a] == read[b] for a, b in pairs.tolist()], dtype=bool)
    pairs = pairs[stays]
    near = np.einsum("ij,ij->i", asked[pairs[:, 0]], asked[pairs[:, 1]])
    return Alike(pairs, cosines[stays], near, Recall(0, 0, 0))


def _blocks(vectors: Array, seed: int) -> Iterator[tuple[Array, Array]]:
    rows = np.arange(len(vectors))
    groups = [rows] if len(rows) <= EXACT else _cluster(vectors, seed)
    for group in groups:
        for start in range(0, len(group), BLOCK):
            yield group[start : start + BLOCK], group


def _cluster(vectors: Array, seed: int) -> list[Array]:
    from sklearn.cluster import MiniBatchKMeans

    count = max(len(vectors) // CLUSTER, 2)
    labels = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=4096).fit_predict(vectors)
    return [np.flatnonzero(labels == label) for label in range(count)]


def _compare(vectors: Array, block: Array, others: Array, threshold: float) -> Array:
    first, second = np.nonzero(vectors[block] @ vectors[others].T >= threshold)
    left, right = block[first], others[second]
    return np.stack([left[left < right], right[left < right]], axis=1)
