"""Near-duplicate pairs: MinHash (Broder 1997) with banded LSH proposes, exact Jaccard decides.

A row is the set of character n-grams of its prompt together with those of its answer. Two rows are near
duplicates when

* the Jaccard similarity of these sets reaches the threshold,
* that of the prompts alone reaches a threshold of its own: a template answer under another question is no
  duplicate, and
* both hold the same numbers in the same order (unless told not to look): an order number or an operand makes
  another row.

A text is folded first: lower case, single spaces, no sentence punctuation.

No pair that is reported falls short of the thresholds; what can go wrong is that one is never proposed. How many are
is measured on every run: a few hundred rows, the probes, are compared with all others without MinHash.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# 40 bands of 6: a pair at Jaccard 0.75 is proposed with probability 0.9996, one at 0.5 with 0.47.
BANDS, WIDTH = 40, 6
PERMUTATIONS = BANDS * WIDTH
SEED = 1997
# Five standard deviations of a similarity of 0.9 estimated from 240 hashes.
MARGIN = 0.1
# In one bucket a row is compared with the first and with the nearest so many others before it.
NEIGHBOURS = 128
CHUNK = 200_000
# Rows whose pairs are counted without MinHash, and the comparisons that may cost.
PROBES, PROBED = 300, 20_000_000

_QUIET = re.compile(r"[.,!?;:'\"“”‘’…]+")
_SPACES = re.compile(r"\s+")
_NUMBER = re.compile(r"\d+")
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """Sorted, distinct n-gram hashes of all rows, one after the other.

    Attributes:
        hashes: uint64.
        offsets: Row i owns ``hashes[offsets[i]:offsets[i + 1]]``.
    """

    hashes: Array
    offsets: Array

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1


def fold_text(text: str) -> str:
    """Lower case, single spaces, without sentence punctuation."""
    return _SPACES.sub(" ", _QUIET.sub("", text.casefold())).strip()


def read_numbers(text: str) -> str:
    """All runs of digits, in order."""
    return " ".join(_NUMBER.findall(text))


def cut_shingles(texts: Sequence[str], size: int, salt: int = 0) -> Shingles:
    """Character n-grams of folded texts; a text shorter than ``size`` is padded to one n-gram.

    Args:
        texts: Folded texts.
        size: Characters per n-gram.
        salt: Another value makes other hashes, so that prompts and answers do not mix.
    """
    padded = [f" {text} ".ljust(size) for text in texts]
    lengths = np.fromiter((len(text) for text in padded), dtype=np.int64, count=len(padded))
    codes = np.frombuffer("".join(padded).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    count = max(len(codes) - size + 1, 0)
    hashes = np.full(count, np.uint64(salt + 1), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(size):
            hashes = hashes * _PRIME + codes[place : place + count]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(29)
    row = np.repeat(np.arange(len(padded)), lengths)[:count]
    inside = np.arange(count) + size <= starts[row + 1] if count else np.zeros(0, dtype=bool)
    return _sort_distinct(row[inside], hashes[inside], len(padded))


def join_shingles(first: Shingles, second: Shingles) -> Shingles:
    """Per row the union of both sets."""
    rows = np.concatenate([_row_of(first), _row_of(second)])
    return _sort_distinct(rows, np.concatenate([first.hashes, second.hashes]), first.rows)


def _row_of(shingles: Shingles) -> Array:
    return np.repeat(np.arange(shingles.rows), np.diff(shingles.offsets))


def _sort_distinct(row: Array, hashes: Array, rows: int) -> Shingles:
    order = np.lexsort((hashes, row))
    row, hashes = row[order], hashes[order]
    fresh = np.ones(len(row), dtype=bool)
    fresh[1:] = (row[1:] != row[:-1]) | (hashes[1:] != hashes[:-1])
    counts = np.bincount(row[fresh], minlength=rows)
    return Shingles(hashes[fresh], np.concatenate([[0], np.cumsum(counts)]))


@dataclass(frozen=True)
class Recall:
    """How many of the pairs that exist were found.

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
        """Recall, 1 where there was nothing to find."""
        return self.found / self.pairs if self.pairs else 1.0

    @property
    def low(self) -> float:
        """Lower end of the 95% interval of the recall (Wilson 1927)."""
        if not self.pairs:
            return 0.0
        z, n, p = 1.96, self.pairs, self.share
        middle = p + z * z / (2 * n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - reach) / (1 + z * z / n)


@dataclass(frozen=True)
class Alike:
    """Pairs of rows that are alike.

    Attributes:
        pairs: Shape (pairs, 2), the earlier row first, sorted.
        rows: Jaccard similarity of prompt and answer together, per pair.
        prompts: Jaccard similarity of the prompts alone, per pair.
        recall: As measured on the probes.
    """

    pairs: Array
    rows: Array
    prompts: Array
    recall: Recall


def find_alike(
    prompts: Sequence[str],
    answers: Sequence[str],
    threshold: float,
    prompt_threshold: float,
    size: int,
    numbers: bool = True,
    probes: int = 0,
) -> Alike:
    """All near-duplicate pairs, with their similarities.

    Args:
        prompts: User texts, one per row.
        answers: Assistant texts, one per row.
        threshold: Least Jaccard similarity of the n-grams of prompt and answer together.
        prompt_threshold: Least Jaccard similarity of the n-grams of the prompts.
        size: Characters per n-gram.
        numbers: Whether rows with different numbers are different.
        probes: Rows on which the recall is measured, fewer where that would take too long.
    """
    if len(prompts) < 2:
        return Alike(np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.zeros(0), Recall(0, 0, 0))
    asked = cut_shingles([fold_text(text) for text in prompts], size, salt=0)
    said = cut_shingles([fold_text(text) for text in answers], size, salt=1)
    both = join_shingles(asked, said)
    group = np.zeros(len(prompts), dtype=np.int64)
    if numbers:
        group = _rank([read_numbers(f"{p}\n{a}") for p, a in zip(prompts, answers, strict=True)])
    digests = sketch(both)
    pairs = propose_pairs(digests, group)
    pairs = pairs[_estimate(digests, pairs) >= threshold - MARGIN]
    pairs, whole, part = _keep_alike(both, asked, pairs, threshold, prompt_threshold)
    chosen = choose_probes(len(prompts), probes)
    truth = list_probed(both, group, chosen, threshold)
    truth, _, _ = _keep_alike(both, asked, truth, threshold, prompt_threshold)
    codes = truth @ np.array([len(prompts), 1])
    found = np.isin(codes, pairs @ np.array([len(prompts), 1]))
    return Alike(pairs, whole, part, Recall(len(chosen), len(codes), int(found.sum())))


def _keep_alike(
    both: Shingles, asked: Shingles, pairs: Array, threshold: float, prompt_threshold: float
) -> tuple[Array, Array, Array]:
    # Prompts are the smaller sets, so they go first.
    part = compute_jaccard(asked, pairs)
    pairs, part = pairs[part >= prompt_threshold], part[part >= prompt_threshold]
    whole = compute_jaccard(both, pairs)
    stays = whole >= threshold
    return pairs[stays], whole[stays], part[stays]


def choose_probes(rows: int, wanted: int) -> Array:
    """Sorted rows to measure the recall on, the same ones for the same number of rows."""
    count = min(wanted, rows, max(PROBED // rows, 10))
    return np.sort(np.random.default_rng(SEED).choice(rows, count, replace=False))


def list_probed(shingles: Shingles, group: Array, probes: Array, threshold: float) -> Array:
    """Pairs of a probe and any row of its group whose Jaccard similarity reaches a threshold, earlier row first."""
    from scipy.sparse import csr_array

    if not len(probes):
        return np.zeros((0, 2), dtype=np.int64)
    spans = [shingles.hashes[shingles.offsets[row] : shingles.offsets[row + 1]] for row in probes.tolist()]
    known = np.unique(np.concatenate(spans))
    places = np.searchsorted(known, shingles.hashes)
    hit = known[np.minimum(places, len(known) - 1)] == shingles.hashes
    offsets = np.concatenate([[0], np.cumsum(hit)])[shingles.offsets]
    shape = (shingles.rows, len(known))
    matrix = csr_array((np.ones(int(hit.sum()), dtype=np.int32), places[hit], offsets), shape=shape)
    sizes = np.diff(shingles.offsets)
    across = matrix.T.tocsr()
    found: list[Array] = []
    for row in probes.tolist():
        common = (matrix[[row]] @ across).tocoo()
        others, shared = common.coords[1], common.data
        alike = (shared >= threshold * (sizes[row] + sizes[others] - shared) - 1e-6) & (group[others] == group[row])
        twins = others[alike & (others != row)]
        found.append(np.stack([np.minimum(twins, row), np.maximum(twins, row)], axis=1))
    pairs: Array = np.unique(np.concatenate(found), axis=0)
    return pairs


def find_near_pairs(
    prompts: Sequence[str], answers: Sequence[str], threshold: float, prompt_threshold: float, size: int
) -> Array:
    """The pairs of `find_alike` alone."""
    return find_alike(prompts, answers, threshold, prompt_threshold, size).pairs


def find_between(first: Sequence[str], second: Sequence[str], threshold: float, size: int = 4) -> tuple[Array, Array]:
    """Pairs of a text of one list and a text of another that are alike, whatever their numbers.

    Args:
        first: Texts.
        second: Texts.
        threshold: Least Jaccard similarity of the n-grams.
        size: Characters per n-gram.

    Returns:
        Shape (pairs, 2), a place in ``first`` and one in ``second``, sorted; and the similarities.
    """
    if not len(first) or not len(second):
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    shingles = cut_shingles([fold_text(text) for text in (*first, *second)], size)
    digests = sketch(shingles)
    keys = _key_bands(digests, np.zeros(len(digests), dtype=np.int64))
    found: list[Array] = []
    for key in keys:
        left, right = key[: len(first)], key[len(first) :]
        order = np.argsort(left, kind="stable")
        low = np.searchsorted(left[order], right)
        count = np.searchsorted(left[order], right, side="right") - low
        owner = np.repeat(np.arange(len(second)), count)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + low[owner]
        found.append(np.unique(order[place] * len(second) + owner))
    codes = np.unique(np.concatenate(found))
    pairs = np.stack([codes // len(second), codes % len(second) + len(first)], axis=1)
    pairs = pairs[_estimate(digests, pairs) >= threshold - MARGIN]
    similarity = compute_jaccard(shingles, pairs)
    pairs = pairs[similarity >= threshold] - np.array([0, len(first)])
    return pairs, similarity[similarity >= threshold]


def join_clusters(count: int, pairs: Array) -> list[int]:
    """Per row the first row of its connected component."""
    parent = list(range(count))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in pairs.tolist():
        a, b = find(first), find(second)
        parent[max(a, b)] = min(a, b)
    return [find(row) for row in range(count)]


def sketch(shingles: Shingles) -> Array:
    """MinHash signatures, shape (rows, 240)."""
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.offsets.astype(np.uint64), PERMUTATIONS, SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32)


def propose_pairs(digests: Array, group: Array) -> Array:
    """Pairs of rows of one group that agree in all hashes of at least one band."""
    rows = len(digests)
    found: list[Array] = []
    for key in _key_bands(digests, group):
        order = np.argsort(key, kind="stable")
        edges = np.concatenate([[0], np.flatnonzero(np.diff(key[order])) + 1, [rows]])
        for place in np.flatnonzero(np.diff(edges) > 1).tolist():
            found.append(_pair_up(order[edges[place] : edges[place + 1]]) @ np.array([rows, 1]))
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    codes = np.unique(np.concatenate(found))
    pairs = np.stack(np.divmod(codes, rows), axis=1)
    # Two groups may meet in one bucket by chance.
    together: Array = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]]
    return together


def _key_bands(digests: Array, group: Array) -> Iterator[Array]:
    for band in range(BANDS):
        part = digests[:, band * WIDTH : (band + 1) * WIDTH].astype(np.uint64)
        key = np.full(len(digests), 0xCBF29CE484222325, dtype=np.uint64) ^ group.astype(np.uint64)
        with np.errstate(over="ignore"):
            for column in part.T:
                key = (key ^ column) * _PRIME
                key ^= key >> np.uint64(31)
        yield key


def _pair_up(bucket: Array) -> Array:
    size = len(bucket)
    if size <= 2 * NEIGHBOURS:
        first, second = np.triu_indices(size, 1)
    else:
        later = np.arange(size)
        first = np.concatenate(
            [np.full(size - 1 - i, i) for i in range(NEIGHBOURS)]
            + [later[NEIGHBOURS : size - gap] for gap in range(1, NEIGHBOURS + 1)]
        )
        second = np.concatenate(
            [later[i + 1 :] for i in range(NEIGHBOURS)]
            + [later[NEIGHBOURS + gap :] for gap in range(1, NEIGHBOURS + 1)]
        )
    return np.stack([bucket[first], bucket[second]], axis=1)


def _rank(values: Sequence[str]) -> Array:
    ranks: dict[str, int] = {}
    return np.array([ranks.setdefault(value, len(ranks)) for value in values], dtype=np.int64)


def _estimate(digests: Array, pairs: Array) -> Array:
    parts = [
        (digests[chunk[:, 0]] == digests[chunk[:, 1]]).mean(axis=1)
        for chunk in (pairs[start : start + 10_000] for start in range(0, len(pairs), 10_000))
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def compute_jaccard(shingles: Shingles, pairs: Array) -> Array:
    """Exact Jaccard similarity of pairs of rows, shape (pairs,)."""
    from scipy.sparse import csr_array

    if not len(pairs):
        return np.zeros(0)
    _, columns = np.unique(shingles.hashes, return_inverse=True)
    matrix = csr_array(
        (np.ones(len(columns), dtype=np.int32), columns.ravel(), shingles.offsets),
        shape=(shingles.rows, int(columns.max(initial=0)) + 1),
    )
    sizes = np.diff(shingles.offsets)
    shared: list[Array] = []
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        shared.append(np.asarray(matrix[chunk[:, 0]].multiply(matrix[chunk[:, 1]]).sum(axis=1)).ravel())
    common = np.concatenate(shared)
    similarity: Array = common / (sizes[pairs[:, 0]] + sizes[pairs[:, 1]] - common)
    return similarity
