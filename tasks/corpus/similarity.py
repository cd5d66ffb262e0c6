"""Near-duplicate pairs: MinHash (Broder 1997) with banded LSH proposes, exact Jaccard decides.

A row is represented by the set of character n-grams of its prompt together with those of its answer. Two rows are near
duplicates when

* the Jaccard similarity of these sets reaches the threshold,
* the similarity of the prompts alone reaches a threshold of its own, because a template answer to another question is
  no duplicate, and
* both contain the same numbers in the same order (unless ``numbers`` is false), because another order number or operand
  makes another row.

Texts are normalised first: lower case, single spaces, no sentence punctuation.

Every reported pair reaches the thresholds, so precision is 1; a pair can only be missed because LSH never proposes it.
The recall is measured on every run: a few hundred rows, the probes, are compared with all others without MinHash.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.text.words import fold_text

Array = np.ndarray[Any, Any]

# 40 bands of 6 hashes: a pair at Jaccard 0.75 is proposed with probability 0.9996, one at 0.5 with 0.47.
BANDS, HASHES_PER_BAND = 40, 6
PERMUTATIONS = BANDS * HASHES_PER_BAND
SEED = 1997
# Five standard deviations of the estimate that 240 hashes give of a similarity of 0.9.
ESTIMATE_MARGIN = 0.1
# In a large bucket a row is compared with this many rows at its start and this many just before the row, which keeps
# the number of pairs linear.
MAX_BUCKET_NEIGHBOURS = 128
PAIRS_PER_PRODUCT = 200_000
# Bound the n-grams in memory: rows cut and signed at a time, and pairs whose rows are cut at a time.
ROWS_PER_BATCH, PAIRS_PER_BATCH = 8192, 20_000
ROWS_PER_SIGNING = 128
# Batches small enough for the processor's cache.
CODE_POINTS_PER_BATCH, PAIRS_PER_ESTIMATE = 16_384, 512
# Rare n-grams that a row must share with a probe before all their shared n-grams are counted.
REQUIRED_RARE_NGRAMS = 50
# Bounds the cost of comparing the probes with all rows.
MAX_PROBE_COMPARISONS = 20_000_000

# `fold_text` as a translation of ASCII bytes: every character at which `str.split` splits becomes a space.
_IGNORED_PUNCTUATION = b".,!?;:'\""
_LOWERCASE_TABLE = bytes(range(256)).lower().translate(bytes.maketrans(b"\t\n\v\f\r\x1c\x1d\x1e\x1f", b" " * 9))
_NUMBER = re.compile(r"\d+")
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """N-gram hashes of all rows, one row after the other; an n-gram that a row repeats is repeated here.

    Attributes:
        hashes: uint64.
        offsets: Row i owns ``hashes[offsets[i]:offsets[i + 1]]``.
    """

    hashes: Array
    offsets: Array

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Array) -> Shingles:
        """The shingles of a selection of rows, in the given order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Shingles(self.hashes[positions], offsets)


def fold_texts(texts: Sequence[str]) -> list[str]:
    """`fold_text` of each text; ASCII texts, usually nearly all, are folded in one pass over their bytes."""
    joined = "\xff".join(filter(str.isascii, texts)).encode("latin-1").translate(_LOWERCASE_TABLE, _IGNORED_PUNCTUATION)
    while b"  " in joined:
        joined = joined.replace(b"  ", b" ")
    joined = joined.replace(b" \xff", b"\xff").replace(b"\xff ", b"\xff").strip(b" ")
    folded = iter(joined.decode("latin-1").split("\xff"))
    return [next(folded) if text.isascii() else fold_text(text) for text in texts]


def read_numbers(text: str) -> str:
    """All runs of digits, in order."""
    return " ".join(_NUMBER.findall(text))


def cut_shingles(texts: Sequence[str], size: int, salts: Sequence[int] = (0,)) -> Shingles:
    """Character n-grams of folded texts; a text shorter than ``size`` is padded to one n-gram.

    Args:
        texts: Folded texts.
        size: Characters per n-gram.
        salts: Assigned to the texts cyclically; different salts give different hashes, which keeps the n-grams of
            prompts apart from those of answers.
    """
    padded = [f" {text} ".ljust(size) for text in texts]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    code_points = np.frombuffer("".join(padded).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    count = max(len(code_points) - size + 1, 0)
    hashes = np.repeat(np.resize(np.array(salts, dtype=np.uint64) + np.uint64(1), len(padded)), lengths)[:count]
    for start in range(0, count, CODE_POINTS_PER_BATCH):
        _hash_ngrams(
            hashes[start : start + CODE_POINTS_PER_BATCH],
            code_points[start : start + CODE_POINTS_PER_BATCH + size - 1],
            size,
        )
    inside = np.ones(count, dtype=bool)
    # N-grams that begin near the end of a text run on into the next text.
    ends = np.cumsum(lengths)[:-1]
    for overhang in range(1, size):
        inside[ends - overhang] = False
    return Shingles(hashes[inside], np.concatenate([[0], np.cumsum(lengths - size + 1)]))


def _hash_ngrams(hashes: Array, code_points: Array, size: int) -> None:
    values = code_points.astype(np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(size):
            hashes *= _PRIME
            hashes += values[offset : offset + len(hashes)]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(29)


@dataclass(frozen=True)
class Sides:
    """Prompts and answers of all rows; their n-grams are computed on demand and not stored.

    Attributes:
        prompts: One per row.
        answers: One per row.
        size: Characters per n-gram.
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    size: int

    def cut_prompts(self, rows: Sequence[int]) -> Shingles:
        """N-grams of the prompts of the given rows."""
        return cut_shingles(fold_texts([self.prompts[row] for row in rows]), self.size)

    def cut_both(self, rows: Sequence[int]) -> Shingles:
        """N-grams of the prompts and the answers of the given rows."""
        texts = fold_texts([side[row] for row in rows for side in (self.prompts, self.answers)])
        sides = cut_shingles(texts, self.size, salts=(0, 1))
        return Shingles(sides.hashes, sides.offsets[::2])


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


@dataclass(frozen=True)
class SimilarPairs:
    """Pairs of rows whose similarity reaches the thresholds.

    Attributes:
        pairs: Shape (pairs, 2), the earlier row first, sorted.
        rows: Jaccard similarity of prompt and answer together, per pair.
        prompts: Jaccard similarity of the prompts alone, per pair.
        recall: As measured on the probes.
        signatures: MinHash signatures of all rows, see `sketch`; None when there were fewer than two rows.
    """

    pairs: Array
    rows: Array
    prompts: Array
    recall: Recall
    signatures: Array | None = None


def find_similar_pairs(
    prompts: Sequence[str],
    answers: Sequence[str],
    threshold: float,
    prompt_threshold: float,
    size: int,
    numbers: bool = True,
    probes: int = 0,
    spread: Spread = IN_TURN,
    known_signatures: Array | None = None,
) -> SimilarPairs:
    """All near-duplicate pairs, with their similarities.

    Args:
        prompts: User texts, one per row.
        answers: Assistant texts, one per row.
        threshold: Least Jaccard similarity of the n-grams of prompt and answer together.
        prompt_threshold: Least Jaccard similarity of the n-grams of the prompts.
        size: Characters per n-gram.
        numbers: Whether rows with different numbers count as different.
        probes: Rows on which the recall is measured; fewer are taken when that would cost too much.
        spread: Engine that computes the signatures of batches.
        known_signatures: Signatures of the rows, from an earlier pass over the same texts.
    """
    if len(prompts) < 2:
        return SimilarPairs(np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.zeros(0), Recall(0, 0, 0))
    sides = Sides(prompts, answers, size)
    number_groups = np.zeros(len(prompts), dtype=np.int64)
    if numbers:
        number_groups = _number_values([read_numbers(f"{p}\n{a}") for p, a in zip(prompts, answers, strict=True)])
    probe_row_numbers = choose_probes(len(prompts), probes)
    probe_rows = Probes(sides.cut_both(probe_row_numbers.tolist()), threshold)
    batches = (
        Sides(prompts[start : start + ROWS_PER_BATCH], answers[start : start + ROWS_PER_BATCH], size)
        for start in range(0, len(prompts), ROWS_PER_BATCH)
    )
    signatures = (
        np.empty((len(prompts), PERMUTATIONS), dtype=np.uint32) if known_signatures is None else known_signatures
    )
    probe_candidates = [np.zeros((0, 2), dtype=np.int64)]
    # Rows with known signatures are only searched for candidates of the probes.
    signed_batches = (
        spread("sign", partial(sign_batch, probe_rows, known_signatures is None), batches)
        if known_signatures is None or len(probe_row_numbers)
        else ()
    )
    for batch_number, batch in enumerate(signed_batches):
        start = batch_number * ROWS_PER_BATCH
        if batch.signatures is not None:
            signatures[start : start + ROWS_PER_BATCH] = batch.signatures
        probe_candidates.append(np.stack([probe_row_numbers[batch.probes], batch.others + start], axis=1))
    pairs = propose_pairs(signatures, number_groups)
    pairs = pairs[_estimate_jaccard(signatures, pairs) >= threshold - ESTIMATE_MARGIN]
    pairs, row_similarities, prompt_similarities = _filter_by_jaccard(sides, pairs, threshold, prompt_threshold)
    true_pairs, _, _ = _filter_by_jaccard(
        sides, _normalise_pairs(np.concatenate(probe_candidates), number_groups), threshold, prompt_threshold
    )
    true_codes = true_pairs @ np.array([len(prompts), 1])
    found = np.isin(true_codes, pairs @ np.array([len(prompts), 1]))
    return SimilarPairs(
        pairs,
        row_similarities,
        prompt_similarities,
        Recall(len(probe_row_numbers), len(true_codes), int(found.sum())),
        signatures,
    )


def _filter_by_jaccard(
    sides: Sides, pairs: Array, threshold: float, prompt_threshold: float
) -> tuple[Array, Array, Array]:
    # Prompts are the smaller sets, so the cheaper comparison filters first.
    prompt_similarities = _compute_similarities(sides.cut_prompts, pairs)
    pairs, prompt_similarities = (
        pairs[prompt_similarities >= prompt_threshold],
        prompt_similarities[prompt_similarities >= prompt_threshold],
    )
    row_similarities = _compute_similarities(sides.cut_both, pairs)
    reached = row_similarities >= threshold
    return pairs[reached], row_similarities[reached], prompt_similarities[reached]


def _compute_similarities(cut: Callable[[Sequence[int]], Shingles], pairs: Array) -> Array:
    similarities = [np.zeros(0)]
    for start in range(0, len(pairs), PAIRS_PER_BATCH):
        rows, positions = np.unique(pairs[start : start + PAIRS_PER_BATCH], return_inverse=True)
        similarities.append(_compute_jaccard(cut(rows.tolist()), positions.reshape(-1, 2)))
    return np.concatenate(similarities)


@dataclass(frozen=True)
class BatchSignatures:
    """Result of one batch of rows, kept after their n-grams are discarded.

    Attributes:
        signatures: MinHash signatures, shape (rows, 240); None when they were not requested.
        probes: Probes that have a candidate in the batch, one entry per candidate pair.
        others: The candidate of each, as a row number within the batch.
    """

    signatures: Array | None
    probes: Array
    others: Array


def sign_batch(probes: Probes, compute_signatures: bool, sides: Sides) -> BatchSignatures:
    """Compute the signatures of a batch if requested, and compare its rows with the probes."""
    shingles = sides.cut_both(range(len(sides.prompts)))
    return BatchSignatures(sketch(shingles) if compute_signatures else None, *probes.find_candidates(shingles))


class Probes:
    """Rows whose near duplicates are found without MinHash, by counting shared n-grams.

    Args:
        shingles: N-grams of the probes.
        threshold: Minimum Jaccard similarity.
    """

    def __init__(self, shingles: Shingles, threshold: float) -> None:
        self.vocabulary = np.unique(shingles.hashes)
        ngram_columns = np.searchsorted(self.vocabulary, shingles.hashes)
        rows, columns, sizes = _deduplicate_ngrams(shingles, ngram_columns, len(self.vocabulary))
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
        rows, columns, _ = _deduplicate_ngrams(
            Shingles(shingles.hashes[shared], offsets), columns[shared], len(self.vocabulary)
        )
        row_matrix = _build_incidence_matrix(rows, columns, (shingles.rows, len(self.vocabulary)))
        rare_counts = (self.rare_matrix @ row_matrix.T.tocsr()).tocoo()
        enough_rare = rare_counts.data >= self.required_rare[rare_counts.coords[0]]
        probes, others = (side[enough_rare].astype(np.int64) for side in rare_counts.coords)
        shared_counts = np.asarray(self.matrix[probes].multiply(row_matrix[others]).sum(axis=1)).ravel()
        reached = shared_counts >= self.required_shared[probes]
        return probes[reached], others[reached]


def list_probe_pairs(shingles: Shingles, group: Array, probes: Array, threshold: float) -> Array:
    """Pairs of a probe and any row of its group whose Jaccard similarity reaches the threshold, earlier row first."""
    matched, others = Probes(shingles.take(probes), threshold).find_candidates(shingles)
    pairs = _normalise_pairs(np.stack([probes[matched], others], axis=1), group)
    similar: Array = pairs[compute_jaccard(shingles, pairs) >= threshold]
    return similar


def _build_incidence_matrix(rows: Array, columns: Array, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)


def _deduplicate_ngrams(shingles: Shingles, columns: Array, count: int) -> tuple[Array, Array, Array]:
    """Row and column of each distinct n-gram of a row, sorted, and the number of distinct n-grams per row.

    Args:
        shingles: The rows.
        columns: The column of each of their n-grams; equal n-grams have equal columns.
        count: Number of columns.
    """
    keys = np.repeat(np.arange(shingles.rows), np.diff(shingles.offsets)) * count + columns
    keys.sort()
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = keys[1:] != keys[:-1]
    rows, columns = np.divmod(keys[is_first], max(count, 1))
    return rows, columns, np.bincount(rows, minlength=shingles.rows)


def _normalise_pairs(pairs: Array, group: Array) -> Array:
    """Unique pairs of distinct rows of the same group, the earlier row first."""
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (group[pairs[:, 0]] == group[pairs[:, 1]])]
    normalised: Array = np.unique(np.sort(pairs, axis=1), axis=0)
    return normalised


def choose_probes(rows: int, requested: int) -> Array:
    """Sorted rows on which the recall is measured; the choice depends on the number of rows alone."""
    count = min(requested, rows, max(MAX_PROBE_COMPARISONS // rows, 10))
    return np.sort(np.random.default_rng(SEED).choice(rows, count, replace=False))


@dataclass(frozen=True)
class SignedTexts:
    """Texts and their MinHash signatures, which can be compared with other texts again and again.

    Attributes:
        texts: The texts; their n-grams are computed on demand and not stored.
        signatures: See `sketch`.
        size: Characters per n-gram.
    """

    texts: Sequence[str]
    signatures: Array
    size: int


def sign_texts(texts: Sequence[str], size: int = 4) -> SignedTexts:
    """Sign texts, a batch after the other, which bounds the memory.

    Args:
        texts: The texts.
        size: Characters per n-gram.
    """
    batches = (texts[start : start + ROWS_PER_BATCH] for start in range(0, len(texts), ROWS_PER_BATCH))
    signatures = [sketch(cut_shingles(fold_texts(batch), size)) for batch in batches]
    return SignedTexts(texts, np.concatenate([np.zeros((0, PERMUTATIONS), dtype=np.uint32), *signatures]), size)


def find_between(first: SignedTexts, second: SignedTexts, threshold: float) -> tuple[Array, Array]:
    """Near-duplicate pairs of a text of one list and a text of another; numbers are not compared.

    Args:
        first: Texts, signed.
        second: Texts, signed with the same size of n-grams.
        threshold: Least Jaccard similarity of the n-grams.

    Returns:
        Shape (pairs, 2), an index into ``first`` and one into ``second``, sorted; and the similarities.
    """
    candidate_codes = [np.zeros(0, dtype=np.int64)]
    bands = (_key_bands(side.signatures, np.zeros(len(side.texts), dtype=np.int64)) for side in (first, second))
    for first_keys, second_keys in zip(*bands, strict=True):
        order = np.argsort(first_keys, kind="stable")
        low = np.searchsorted(first_keys[order], second_keys)
        count = np.searchsorted(first_keys[order], second_keys, side="right") - low
        owner = np.repeat(np.arange(len(second.texts)), count)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + low[owner]
        candidate_codes.append(_sort_unique(order[position] * len(second.texts) + owner))
    codes = _sort_unique(np.concatenate(candidate_codes))
    pairs = np.stack(np.divmod(codes, max(len(second.texts), 1)), axis=1)
    estimates = [
        np.count_nonzero(first.signatures[chunk[:, 0]] == second.signatures[chunk[:, 1]], axis=1) / PERMUTATIONS
        for chunk in (pairs[start : start + PAIRS_PER_ESTIMATE] for start in range(0, len(pairs), PAIRS_PER_ESTIMATE))
    ]
    pairs = pairs[np.concatenate([np.zeros(0), *estimates]) >= threshold - ESTIMATE_MARGIN]
    similarity = np.concatenate([np.zeros(0), *_compare_chunks(first, second, pairs)])
    return pairs[similarity >= threshold], similarity[similarity >= threshold]


def _compare_chunks(first: SignedTexts, second: SignedTexts, pairs: Array) -> Iterator[Array]:
    for start in range(0, len(pairs), PAIRS_PER_BATCH):
        chunk = pairs[start : start + PAIRS_PER_BATCH]
        (left, left_positions), (right, right_positions) = (
            np.unique(side, return_inverse=True) for side in (chunk[:, 0], chunk[:, 1])
        )
        texts = [*(first.texts[place] for place in left.tolist()), *(second.texts[place] for place in right.tolist())]
        shingles = cut_shingles(fold_texts(texts), first.size)
        yield _compute_jaccard(shingles, np.stack([left_positions, right_positions + len(left)], axis=1))


def join_clusters(count: int, pairs: Array) -> list[int]:
    """Per row the first row of its connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, cluster = connected_components(graph, directed=False)
    _, first = np.unique(cluster, return_index=True)
    joined: list[int] = first[cluster].tolist()
    return joined


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
    for key in _key_bands(signatures, group):
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
    codes = _sort_unique(np.concatenate(candidate_codes))
    pairs = np.stack(np.divmod(codes, rows), axis=1)
    # Rows of different groups can share a bucket through a hash collision.
    same_group: Array = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]]
    return same_group


def _sort_unique(codes: Array) -> Array:
    """Sorted unique codes; np.unique builds a hash table, which is slower here."""
    codes.sort()
    is_first = np.ones(len(codes), dtype=bool)
    is_first[1:] = codes[1:] != codes[:-1]
    return codes[is_first]


def _key_bands(signatures: Array, group: Array) -> Iterator[Array]:
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


def _number_values(values: Sequence[str]) -> Array:
    ranks: dict[str, int] = {}
    return np.array([ranks.setdefault(value, len(ranks)) for value in values], dtype=np.int64)


def _estimate_jaccard(signatures: Array, pairs: Array) -> Array:
    parts = [
        np.count_nonzero(signatures[chunk[:, 0]] == signatures[chunk[:, 1]], axis=1) / PERMUTATIONS
        for chunk in (pairs[start : start + PAIRS_PER_ESTIMATE] for start in range(0, len(pairs), PAIRS_PER_ESTIMATE))
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def compute_jaccard(shingles: Shingles, pairs: Array) -> Array:
    """Exact Jaccard similarity of pairs of rows, shape (pairs,)."""
    if not len(pairs):
        return np.zeros(0)
    rows, positions = np.unique(pairs, return_inverse=True)
    return _compute_jaccard(shingles.take(rows), positions.reshape(-1, 2))


def _compute_jaccard(shingles: Shingles, positions: Array) -> Array:
    from scipy.sparse import csr_array

    encoded = pa.array(shingles.hashes).dictionary_encode()
    count = len(encoded.dictionary)
    rows, columns, sizes = _deduplicate_ngrams(shingles, encoded.indices.to_numpy(), count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(rows), dtype=np.int32), columns, offsets), shape=(shingles.rows, count))
    shared_counts: list[Array] = []
    for start in range(0, len(positions), PAIRS_PER_PRODUCT):
        chunk = positions[start : start + PAIRS_PER_PRODUCT]
        shared_counts.append(np.asarray(matrix[chunk[:, 0]].multiply(matrix[chunk[:, 1]]).sum(axis=1)).ravel())
    intersections = np.concatenate(shared_counts)
    similarities: Array = intersections / (sizes[positions[:, 0]] + sizes[positions[:, 1]] - intersections)
    return similarities
