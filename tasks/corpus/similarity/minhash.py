"""MinHash (Broder 1997) with banded LSH: pairs of rows whose sets of n-grams are probably similar."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

from tasks.corpus.similarity.shingles import Array, Shingles

# 40 bands of 6 hashes: a pair at Jaccard 0.75 is proposed with probability 0.9996, one at 0.5 with 0.47.
BANDS, HASHES_PER_BAND = 40, 6
PERMUTATIONS = BANDS * HASHES_PER_BAND
SEED = 1997
# In a large bucket a row is compared with this many rows at its start and this many just before the row, which keeps
# the number of pairs linear.
MAX_BUCKET_NEIGHBOURS = 32
# Earlier rows with which a row is compared exactly: the first ones, and those that seem the most similar. Without the
# first, a row that repeats many others would not be compared with what all of them resemble.
MAX_FIRST_NEIGHBOURS, MAX_NEIGHBOURS = 32, 64
ROWS_PER_SIGNING, PAIRS_PER_ESTIMATE = 128, 512
_PRIME = np.uint64(0x100000001B3)


def sketch(shingles: Shingles) -> Array:
    """MinHash signatures, shape (rows, 240)."""
    from rensa import RMinHash

    rows: list[bytes] = []
    # The library returns Python integers, which are created faster in small batches.
    for start in range(0, shingles.rows, ROWS_PER_SIGNING):
        offsets = shingles.offsets[start : start + ROWS_PER_SIGNING + 1]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            shingles.hashes[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.uint64), PERMUTATIONS, SEED
        )
        rows += [array("I", row).tobytes() for row in matrix.to_rows()]
    return np.frombuffer(b"".join(rows), np.uint32).reshape(-1, PERMUTATIONS)


def propose_pairs(signatures: Array, group: Array) -> Array:
    """Pairs of rows of one group that agree in all hashes of at least one band."""
    rows = len(signatures)
    candidate_codes: list[Array] = []
    for key in key_bands(signatures, group):
        order = np.argsort(key)
        key = key[order]
        # Positions whose key equals the next one's; the first of a run of them begins a bucket.
        repeated = np.flatnonzero(key[1:] == key[:-1])
        bucket_starts = np.flatnonzero(np.diff(repeated, prepend=-2) > 1)
        bucket_sizes = np.diff(bucket_starts, append=len(repeated)) + 1
        for size in np.unique(bucket_sizes).tolist():
            first, second = _pair_bucket_positions(size)
            buckets = np.sort(order[repeated[bucket_starts[bucket_sizes == size], None] + np.arange(size)], axis=1)
            candidate_codes.append((buckets[:, first] * rows + buckets[:, second]).ravel())
    if not candidate_codes:
        return np.zeros((0, 2), dtype=np.int64)
    codes = sort_unique(np.concatenate(candidate_codes))
    pairs = np.stack(np.divmod(codes, rows), axis=1)
    # Rows of different groups can share a bucket through a hash collision.
    same_group: Array = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]]
    return same_group


def sort_unique(codes: Array) -> Array:
    """Sorted unique codes; np.unique builds a hash table, which is slower here."""
    codes.sort()
    is_first = np.ones(len(codes), dtype=bool)
    is_first[1:] = codes[1:] != codes[:-1]
    return codes[is_first]


def key_bands(signatures: Array, group: Array) -> Iterator[Array]:
    for band in range(BANDS):
        band_hashes = signatures[:, band * HASHES_PER_BAND : (band + 1) * HASHES_PER_BAND].astype(np.uint64)
        key = np.full(len(signatures), 0xCBF29CE484222325, dtype=np.uint64) ^ group.astype(np.uint64)
        with np.errstate(over="ignore"):
            for column in band_hashes.T:
                key = (key ^ column) * _PRIME
                key ^= key >> np.uint64(31)
        yield key


def _pair_bucket_positions(size: int) -> tuple[Array, Array]:
    if size <= 2 * MAX_BUCKET_NEIGHBOURS:
        first, second = np.triu_indices(size, 1)
        return first, second
    positions = np.arange(size)
    return (
        np.concatenate(
            [np.full(size - 1 - i, i) for i in range(MAX_BUCKET_NEIGHBOURS)]
            + [positions[MAX_BUCKET_NEIGHBOURS : size - gap] for gap in range(1, MAX_BUCKET_NEIGHBOURS + 1)]
        ),
        np.concatenate(
            [positions[i + 1 :] for i in range(MAX_BUCKET_NEIGHBOURS)]
            + [positions[MAX_BUCKET_NEIGHBOURS + gap :] for gap in range(1, MAX_BUCKET_NEIGHBOURS + 1)]
        ),
    )


def estimate_jaccard(signatures: Array, pairs: Array) -> Array:
    parts = [
        np.count_nonzero(signatures[chunk[:, 0]] == signatures[chunk[:, 1]], axis=1) / PERMUTATIONS
        for chunk in (pairs[start : start + PAIRS_PER_ESTIMATE] for start in range(0, len(pairs), PAIRS_PER_ESTIMATE))
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def bound_neighbours(pairs: Array, estimates: Array) -> Array:
    """Of each row the pairs with the first earlier rows that it resembles, and with those that it resembles most.

    Args:
        pairs: Sorted, the earlier row first.
        estimates: Similarity of each.
    """
    kept = np.zeros(len(pairs), dtype=bool)
    for keys, most in (((pairs[:, 0],), MAX_FIRST_NEIGHBOURS), ((pairs[:, 0], -estimates), MAX_NEIGHBOURS)):
        order = np.lexsort((*keys, pairs[:, 1]))
        seconds = pairs[order, 1]
        rank = np.arange(len(order)) - np.searchsorted(seconds, seconds)
        kept[order[rank < most]] = True
    bounded: Array = pairs[kept]
    return bounded
