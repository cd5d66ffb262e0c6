"""Semantic duplicates: rows whose prompts and answers have the same meaning, by the cosine similarity of embeddings.

The procedure is that of SemDeDup (Abbas et al. 2023): the embeddings are clustered by k-means and compared within
each cluster. Up to `EXHAUSTIVE_ROWS` rows, every row is compared with every other. The earlier of two duplicates stays.

Share of pairs that have the same intent, at the default threshold of 0.95 for the prompts, among pairs that are no
near duplicates and contain the same numbers:

* in 10,003 requests of 77 intents: with the default embedder 95.8% of 624 pairs, with all-MiniLM-L6-v2 98.8% of 3,236
  (97.5% of 14,818 from 0.9 on),
* in 6,378 requests of 27 intents: with the default embedder 99.7% of 1,472 pairs, with all-MiniLM-L6-v2 99.8% of 2,917
  (98.3% of 12,799 from 0.9 on).

The similarity of prompts misses small words that invert the meaning ("turn on", "turn off"): of 40 such pairs 11 reach
0.95 with the default embedder and 5 with all-MiniLM-L6-v2; of 40 free paraphrases none and 1 do, and 1 and 16 reach
0.8. Close paraphrases are found, free ones mostly not. This is why the answers must be similar too: with a lower
threshold for the prompts the answers have to tell the rows apart. ``leak: {prompts: 0.9, answers: 0.9}`` finds more
pairs with a sentence embedding model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tasks.corpus.similarity.pairs import SimilarPairs
from tasks.corpus.similarity.probes import Recall
from tasks.corpus.similarity.shingles import read_numbers
from tasks.corpus.threads import on_one_thread
from tasks.data_preparation.screening.params import CosineThresholds, Semantic

Array = np.ndarray[Any, Any]

# Up to this many rows are compared without clustering.
EXHAUSTIVE_ROWS = 20_000
# Rows of one block of the similarity matrix, which bounds the memory.
BLOCK_ROWS = 1_000
# Average number of rows in a cluster of k-means.
ROWS_PER_CLUSTER = 2_000


@on_one_thread
def compare_embeddings(
    prompts: Sequence[str],
    answers: Sequence[str],
    settings: Semantic,
    thresholds: CosineThresholds,
    numbers: bool,
    labels: Sequence[str | None] | None = None,
) -> SimilarPairs:
    """Pairs of rows with the same meaning; ``rows`` is the smaller similarity, of the prompts or of the answers.

    Args:
        prompts: One per row; empty for a plain text.
        answers: One per row.
        settings: Embedder and seed.
        thresholds: Smallest cosine similarities of a pair.
        numbers: Whether rows with different numbers are different.
        labels: One per row, where rows with another label are different; None goes with any.
    """
    # A plain text has no prompt, and its text is compared instead.
    prompts = [prompt or answer for prompt, answer in zip(prompts, answers, strict=True)]
    prompt_vectors = settings.embedder.embed(prompts, settings.seed)
    answer_vectors = settings.embedder.embed(answers, settings.seed)
    # The embedding of an answer without words is zero; such answers are compared as texts.
    _, text_ids = np.unique(answers, return_inverse=True)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for block, others in _blocks(prompt_vectors, settings.seed):
        similar = prompt_vectors[block] @ prompt_vectors[others].T >= thresholds.prompts
        similar &= (answer_vectors[block] @ answer_vectors[others].T >= thresholds.answers) | (
            text_ids[block][:, None] == text_ids[others]
        )
        first, second = np.nonzero(similar)
        both = np.stack([block[first], others[second]], axis=1)
        found.append(both[both[:, 0] < both[:, 1]])
    pairs = np.unique(np.concatenate(found), axis=0)
    if numbers:
        numbers_of = [read_numbers(f"{p}\n{a}") for p, a in zip(prompts, answers, strict=True)]
        pairs = pairs[np.array([numbers_of[a] == numbers_of[b] for a, b in pairs.tolist()], dtype=bool)]
    if labels is not None:
        alike = [labels[a] == labels[b] or None in (labels[a], labels[b]) for a, b in pairs.tolist()]
        pairs = pairs[np.array(alike, dtype=bool)]
    left, right = pairs.T
    answer_cosines = np.where(
        text_ids[left] == text_ids[right], 1.0, np.einsum("ij,ij->i", answer_vectors[left], answer_vectors[right])
    )
    prompt_cosines = np.einsum("ij,ij->i", prompt_vectors[left], prompt_vectors[right])
    return SimilarPairs(pairs, np.minimum(answer_cosines, prompt_cosines), prompt_cosines, Recall(0, 0, 0))


def _blocks(vectors: Array, seed: int) -> Iterator[tuple[Array, Array]]:
    rows = np.arange(len(vectors))
    groups = [rows] if len(rows) <= EXHAUSTIVE_ROWS else _cluster(vectors, seed)
    for group in groups:
        for start in range(0, len(group), BLOCK_ROWS):
            yield group[start : start + BLOCK_ROWS], group[start:]


def _cluster(vectors: Array, seed: int) -> list[Array]:
    from sklearn.cluster import MiniBatchKMeans

    count = max(len(vectors) // ROWS_PER_CLUSTER, 2)
    labels = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=4096).fit_predict(vectors)
    return [np.flatnonzero(labels == label) for label in range(count)]
