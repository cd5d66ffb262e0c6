"""Probes: rows compared with all others without MinHash, on which its recall is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.similarity.minhash import SEED
from tasks.corpus.similarity.shingles import Array, Shingles, compute_jaccard, deduplicate_ngrams

# Rare n-grams that a row must share with a probe before all their shared n-grams are counted.
REQUIRED_RARE_NGRAMS = 50
# Bounds the cost of comparing the probes with all rows.
MAX_PROBE_COMPARISONS = 20_000_000
# A longer row is no probe: its n-grams in memory, sorted in several orders, take a hundred bytes a character.
MAX_PROBE_CHARACTERS = 1_000_000
# Rows of a batch that are compared with a probe in full: those that share the most rare n-grams with it.
MAX_PROBE_CANDIDATES = 200


@dataclass(frozen=True)
class Recall:
    """Recall of MinHash, measured on the probes.

    Attributes:
        probes: Rows compared with all others.
        pairs: Pairs of a probe and another row that reach the thresholds.
        found: How many of them MinHash proposed.
    """

    probes: int
    pairs: int
    found: int

    @property
    def share(self) -> float:
        """Recall; 1 when there was no pair to find."""
        return self.found / self.pairs if self.pairs else 1.0

    @property
    def low(self) -> float:
        """Lower end of the 95% interval of the recall (Wilson 1927)."""
        if not self.pairs:
            return 0.0
        z, n, p = 1.96, self.pairs, self.share
        centre = p + z * z / (2 * n)
        half_width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - half_width) / (1 + z * z / n)


class Probes:
    """Rows whose near duplicates are found without MinHash, by counting shared n-grams.

    Args:
        shingles: N-grams of the probes.
        threshold: Minimum Jaccard similarity.
    """

    def __init__(self, shingles: Shingles, threshold: float) -> None:
        self.vocabulary = np.unique(shingles.hashes)
        ngram_columns = np.searchsorted(self.vocabulary, shingles.hashes)
        rows, columns, sizes = deduplicate_ngrams(shingles, ngram_columns, len(self.vocabulary))
        self.required_shared = np.ceil(threshold * sizes - 1e-6)
        self.matrix = _build_incidence_matrix(rows, columns, (shingles.rows, len(self.vocabulary)))
        # Prefix filter: a row that lacks at most k n-grams of a probe shares at least r of any k + r of them. The
        # rarest ones occur in the fewest rows, so they are counted first.
        order = np.lexsort((columns, np.bincount(columns, minlength=len(self.vocabulary))[columns], rows))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.required_rare = np.minimum(REQUIRED_RARE_NGRAMS, self.required_shared)
        rare = order[rank < np.repeat(sizes - self.required_shared + self.required_rare, sizes)]
        self.rare_matrix = _build_incidence_matrix(rows[rare], columns[rare], self.matrix.shape)

    def find_candidates(self, shingles: Shingles) -> tuple[Array, Array]:
        """Candidate pairs of a probe and a row: they share enough n-grams for the threshold, but may not reach it."""
        if not len(self.vocabulary):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        columns = pc.fill_null(pc.index_in(pa.array(shingles.hashes), pa.array(self.vocabulary)), -1).to_numpy()
        shared = np.flatnonzero(columns >= 0)
        offsets = np.searchsorted(shared, shingles.offsets)
        rows, columns, _ = deduplicate_ngrams(
            Shingles(shingles.hashes[shared], offsets), columns[shared], len(self.vocabulary)
        )
        row_matrix = _build_incidence_matrix(rows, columns, (shingles.rows, len(self.vocabulary)))
        rare_counts = (self.rare_matrix @ row_matrix.T.tocsr()).tocoo()
        enough_rare = np.flatnonzero(rare_counts.data >= self.required_rare[rare_counts.coords[0]])
        probes, others = (side[enough_rare].astype(np.int64) for side in rare_counts.coords)
        # Of the rows of one template each is a candidate of every other.
        order = np.lexsort((others, -rare_counts.data[enough_rare], probes))
        rank = np.arange(len(order)) - np.searchsorted(probes[order], probes[order])
        chosen = order[rank < MAX_PROBE_CANDIDATES]
        probes, others = probes[chosen], others[chosen]
        shared_counts = np.asarray(self.matrix[probes].multiply(row_matrix[others]).sum(axis=1)).ravel()
        reached = shared_counts >= self.required_shared[probes]
        return probes[reached], others[reached]


def list_probe_pairs(shingles: Shingles, group: Array, probes: Array, threshold: float) -> Array:
    """Pairs of a probe and any row of its group whose Jaccard similarity reaches the threshold, earlier row first."""
    matched, others = Probes(shingles.take(probes), threshold).find_candidates(shingles)
    pairs = normalise_pairs(np.stack([probes[matched], others], axis=1), group)
    similar: Array = pairs[compute_jaccard(shingles, pairs) >= threshold]
    return similar


def _build_incidence_matrix(rows: Array, columns: Array, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)


def normalise_pairs(pairs: Array, group: Array) -> Array:
    """Unique pairs of distinct rows of the same group, the earlier row first."""
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (group[pairs[:, 0]] == group[pairs[:, 1]])]
    normalised: Array = np.unique(np.sort(pairs, axis=1), axis=0)
    return normalised


def choose_probes(rows: int, requested: int) -> Array:
    """Sorted rows on which the recall is measured; the choice depends on the number of rows alone."""
    count = min(requested, rows, max(MAX_PROBE_COMPARISONS // rows, 10))
    return np.sort(np.random.default_rng(SEED).choice(rows, count, replace=False))
