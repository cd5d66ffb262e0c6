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

# 40 bands of 6: a pair at Jaccard 0.75 is proposed with probability 0.9996, one at 0.5 with 0.47.
BANDS, WIDTH = 40, 6
PERMUTATIONS = BANDS * WIDTH
SEED = 1997
# Five standard deviations of a similarity of 0.9 estimated from 240 hashes.
MARGIN = 0.1
# In one bucket a row is compared with the first and with the nearest so many others before it.
NEIGHBOURS = 128
CHUNK = 200_000
# Rows whose n-grams are held at a time, and pairs.
ROWS_IN_PART, PAIRS_IN_PART = 8192, 20_000
ROWS_SIGNED = 128
# As many as the processor's cache holds.
CODES_IN_CACHE, PAIRS_IN_CACHE = 16_384, 512
# Rare n-grams of a probe that a row must have before all are counted.
SOME = 50
# Comparisons that counting the pairs of probes without MinHash may cost.
PROBED = 20_000_000

# The same for ASCII; its space is all that `str.split` splits at.
_QUIET_BYTES = b".,!?;:'\""
_LOWER = bytes(range(256)).lower().translate(bytes.maketrans(b"\t\n\v\f\r\x1c\x1d\x1e\x1f", b" " * 9))
_NUMBER = re.compile(r"\d+")
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """N-gram hashes of all rows, one row after the other; what a row says twice is there twice.

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
        """Some rows, in the order given."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Shingles(self.hashes[places], offsets)


def fold_texts(texts: Sequence[str]) -> list[str]:
    """`fold_text` of each; those of ASCII, as a rule nearly all, at once."""
    joined = "\xff".join(filter(str.isascii, texts)).encode("latin-1").translate(_LOWER, _QUIET_BYTES)
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
        salts: Given to the texts in turn; other values make other hashes, so that prompts and answers do not mix.
    """
    padded = [f" {text} ".ljust(size) for text in texts]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    codes = np.frombuffer("".join(padded).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    count = max(len(codes) - size + 1, 0)
    hashes = np.repeat(np.resize(np.array(salts, dtype=np.uint64) + np.uint64(1), len(padded)), lengths)[:count]
    for start in range(0, count, CODES_IN_CACHE):
        _hash(hashes[start : start + CODES_IN_CACHE], codes[start : start + CODES_IN_CACHE + size - 1], size)
    inside = np.ones(count, dtype=bool)
    # The last n-grams of a text but one run on into the next.
    ends = np.cumsum(lengths)[:-1]
    for beyond in range(1, size):
        inside[ends - beyond] = False
    return Shingles(hashes[inside], np.concatenate([[0], np.cumsum(lengths - size + 1)]))


def _hash(hashes: Array, codes: Array, size: int) -> None:
    wide = codes.astype(np.uint64)
    with np.errstate(over="ignore"):
        for place in range(size):
            hashes *= _PRIME
            hashes += wide[place : place + len(hashes)]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(29)


@dataclass(frozen=True)
class Sides:
    """Prompts and answers of all rows, and how they are cut: n-grams are made when they are needed, and not kept.

    Attributes:
        prompts: One per row.
        answers: One per row.
        size: Characters per n-gram.
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    size: int

    def cut_prompts(self, rows: Sequence[int]) -> Shingles:
        """N-grams of the prompts of some rows."""
        return cut_shingles(fold_texts([self.prompts[row] for row in rows]), self.size)

    def cut_both(self, rows: Sequence[int]) -> Shingles:
        """N-grams of the prompts and the answers of some rows."""
        texts = fold_texts([side[row] for row in rows for side in (self.prompts, self.answers)])
        sides = cut_shingles(texts, self.size, salts=(0, 1))
        return Shingles(sides.hashes, sides.offsets[::2])


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
        signatures: Of all rows, see `sketch`; None where there was nothing to sign.
    """

    pairs: Array
    rows: Array
    prompts: Array
    recall: Recall
    signatures: Array | None = None


def find_alike(
    prompts: Sequence[str],
    answers: Sequence[str],
    threshold: float,
    prompt_threshold: float,
    size: int,
    numbers: bool = True,
    probes: int = 0,
    spread: Spread = IN_TURN,
    known: Array | None = None,
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
        spread: Where rows are signed.
        known: Signatures of the rows, from an earlier look at the same texts.
    """
    if len(prompts) < 2:
        return Alike(np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.zeros(0), Recall(0, 0, 0))
    sides = Sides(prompts, answers, size)
    group = np.zeros(len(prompts), dtype=np.int64)
    if numbers:
        group = _rank([read_numbers(f"{p}\n{a}") for p, a in zip(prompts, answers, strict=True)])
    chosen = choose_probes(len(prompts), probes)
    looked_for = Probes(sides.cut_both(chosen.tolist()), threshold)
    cut = (
        Sides(prompts[start : start + ROWS_IN_PART], answers[start : start + ROWS_IN_PART], size)
        for start in range(0, len(prompts), ROWS_IN_PART)
    )
    digests = np.empty((len(prompts), PERMUTATIONS), dtype=np.uint32) if known is None else known
    likely = [np.zeros((0, 2), dtype=np.int64)]
    # Rows that are signed already are only looked through for what is like the probes.
    read = spread("sign", partial(read_rows, looked_for, known is None), cut) if known is None or len(chosen) else ()
    for number, part in enumerate(read):
        start = number * ROWS_IN_PART
        if part.digests is not None:
            digests[start : start + ROWS_IN_PART] = part.digests
        likely.append(np.stack([chosen[part.probes], part.others + start], axis=1))
    pairs = propose_pairs(digests, group)
    pairs = pairs[_estimate(digests, pairs) >= threshold - MARGIN]
    pairs, whole, asked = _keep_alike(sides, pairs, threshold, prompt_threshold)
    truth, _, _ = _keep_alike(sides, _tidy(np.concatenate(likely), group), threshold, prompt_threshold)
    codes = truth @ np.array([len(prompts), 1])
    found = np.isin(codes, pairs @ np.array([len(prompts), 1]))
    return Alike(pairs, whole, asked, Recall(len(chosen), len(codes), int(found.sum())), digests)


def _keep_alike(sides: Sides, pairs: Array, threshold: float, prompt_threshold: float) -> tuple[Array, Array, Array]:
    # Prompts are the smaller sets, so they go first.
    part = _compare(sides.cut_prompts, pairs)
    pairs, part = pairs[part >= prompt_threshold], part[part >= prompt_threshold]
    whole = _compare(sides.cut_both, pairs)
    stays = whole >= threshold
    return pairs[stays], whole[stays], part[stays]


def _compare(cut: Callable[[Sequence[int]], Shingles], pairs: Array) -> Array:
    similarity = [np.zeros(0)]
    for start in range(0, len(pairs), PAIRS_IN_PART):
        rows, places = np.unique(pairs[start : start + PAIRS_IN_PART], return_inverse=True)
        similarity.append(_compute_jaccard(cut(rows.tolist()), places.reshape(-1, 2)))
    return np.concatenate(similarity)


@dataclass(frozen=True)
class Read:
    """What is known of some rows once their n-grams are gone.

    Attributes:
        digests: MinHash signatures, shape (rows, 240); None where they were not wanted.
        probes: Probes that may be like one of the rows.
        others: The row of each, counted within these rows.
    """

    digests: Array | None
    probes: Array
    others: Array


def read_rows(probes: Probes, sign: bool, sides: Sides) -> Read:
    """Sign some rows if that is wanted, and compare them with the probes."""
    shingles = sides.cut_both(range(len(sides.prompts)))
    return Read(sketch(shingles) if sign else None, *probes.meet(shingles))


class Probes:
    """Rows to find the like of without MinHash.

    Args:
        shingles: Theirs.
        threshold: Least Jaccard similarity.
    """

    def __init__(self, shingles: Shingles, threshold: float) -> None:
        self.known = np.unique(shingles.hashes)
        places = np.searchsorted(self.known, shingles.hashes)
        rows, columns, sizes = _distinct(shingles, places, len(self.known))
        self.least = np.ceil(threshold * sizes - 1e-6)
        self.matrix = _mark(rows, columns, (shingles.rows, len(self.known)))
        # A row with all but a few of a probe's n-grams has some of any set a little larger than those few: the rarest.
        order = np.lexsort((columns, np.bincount(columns, minlength=len(self.known))[columns], rows))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.some = np.minimum(SOME, self.least)
        rare = order[rank < np.repeat(sizes - self.least + self.some, sizes)]
        self.rare = _mark(rows[rare], columns[rare], self.matrix.shape)

    def meet(self, shingles: Shingles) -> tuple[Array, Array]:
        """Pairs of a probe and a row that share enough n-grams for the threshold; not all of them reach it."""
        if not len(self.known):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        columns = pc.fill_null(pc.index_in(pa.array(shingles.hashes), pa.array(self.known)), -1).to_numpy()
        hit = np.flatnonzero(columns >= 0)
        offsets = np.searchsorted(hit, shingles.offsets)
        rows, columns, _ = _distinct(Shingles(shingles.hashes[hit], offsets), columns[hit], len(self.known))
        theirs = _mark(rows, columns, (shingles.rows, len(self.known)))
        common = (self.rare @ theirs.T.tocsr()).tocoo()
        some = common.data >= self.some[common.coords[0]]
        probes, others = (side[some].astype(np.int64) for side in common.coords)
        shared = np.asarray(self.matrix[probes].multiply(theirs[others]).sum(axis=1)).ravel()
        enough = shared >= self.least[probes]
        return probes[enough], others[enough]


def list_probed(shingles: Shingles, group: Array, probes: Array, threshold: float) -> Array:
    """Pairs of a probe and any row of its group whose Jaccard similarity reaches a threshold, earlier row first."""
    found, others = Probes(shingles.take(probes), threshold).meet(shingles)
    pairs = _tidy(np.stack([probes[found], others], axis=1), group)
    alike: Array = pairs[compute_jaccard(shingles, pairs) >= threshold]
    return alike


def _mark(rows: Array, columns: Array, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)


def _distinct(shingles: Shingles, columns: Array, count: int) -> tuple[Array, Array, Array]:
    """Row and column of each different n-gram, sorted, and how many each row has.

    Args:
        shingles: The rows.
        columns: A number for each of their n-grams, the same for the same one.
        count: How many numbers there are.
    """
    keys = np.repeat(np.arange(shingles.rows), np.diff(shingles.offsets)) * count + columns
    keys.sort()
    fresh = np.ones(len(keys), dtype=bool)
    fresh[1:] = keys[1:] != keys[:-1]
    rows, columns = np.divmod(keys[fresh], max(count, 1))
    return rows, columns, np.bincount(rows, minlength=shingles.rows)


def _tidy(pairs: Array, group: Array) -> Array:
    """Pairs of different rows of one group, the earlier first, each once."""
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (group[pairs[:, 0]] == group[pairs[:, 1]])]
    tidy: Array = np.unique(np.sort(pairs, axis=1), axis=0)
    return tidy


def choose_probes(rows: int, wanted: int) -> Array:
    """Sorted rows to measure the recall on, the same ones for the same number of rows."""
    count = min(wanted, rows, max(PROBED // rows, 10))
    return np.sort(np.random.default_rng(SEED).choice(rows, count, replace=False))


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
    shingles = cut_shingles(fold_texts([*first, *second]), size)
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
    # A matrix comes as Python's numbers, which are made the quicker the fewer there are at a time.
    for start in range(0, shingles.rows, ROWS_SIGNED):
        offsets = shingles.offsets[start : start + ROWS_SIGNED + 1]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            shingles.hashes[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.uint64), PERMUTATIONS, SEED
        )
        rows += [array("I", row).tobytes() for row in matrix.to_rows()]
    return np.frombuffer(b"".join(rows), np.uint32).reshape(-1, PERMUTATIONS)


def propose_pairs(digests: Array, group: Array) -> Array:
    """Pairs of rows of one group that agree in all hashes of at least one band."""
    rows = len(digests)
    found: list[Array] = []
    for key in _key_bands(digests, group):
        order = np.argsort(key)
        key = key[order]
        # Places in order whose key is that of the next; of a run of them the first begins a bucket.
        again = np.flatnonzero(key[1:] == key[:-1])
        begins = np.flatnonzero(np.diff(again, prepend=-2) > 1)
        sizes = np.diff(begins, append=len(again)) + 1
        for size in np.unique(sizes).tolist():
            first, second = _pair_up(size)
            buckets = np.sort(order[again[begins[sizes == size], None] + np.arange(size)], axis=1)
            found.append((buckets[:, first] * rows + buckets[:, second]).ravel())
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    codes = _sort_out(np.concatenate(found))
    pairs = np.stack(np.divmod(codes, rows), axis=1)
    # Two groups may meet in one bucket by chance.
    together: Array = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]]
    return together


def _sort_out(codes: Array) -> Array:
    """Each of them once, in order; np.unique goes by way of a table of hashes, which is slower here."""
    codes.sort()
    fresh = np.ones(len(codes), dtype=bool)
    fresh[1:] = codes[1:] != codes[:-1]
    return codes[fresh]


def _key_bands(digests: Array, group: Array) -> Iterator[Array]:
    for band in range(BANDS):
        part = digests[:, band * WIDTH : (band + 1) * WIDTH].astype(np.uint64)
        key = np.full(len(digests), 0xCBF29CE484222325, dtype=np.uint64) ^ group.astype(np.uint64)
        with np.errstate(over="ignore"):
            for column in part.T:
                key = (key ^ column) * _PRIME
                key ^= key >> np.uint64(31)
        yield key


def _pair_up(size: int) -> tuple[Array, Array]:
    if size <= 2 * NEIGHBOURS:
        first, second = np.triu_indices(size, 1)
        return first, second
    later = np.arange(size)
    return (
        np.concatenate(
            [np.full(size - 1 - i, i) for i in range(NEIGHBOURS)]
            + [later[NEIGHBOURS : size - gap] for gap in range(1, NEIGHBOURS + 1)]
        ),
        np.concatenate(
            [later[i + 1 :] for i in range(NEIGHBOURS)]
            + [later[NEIGHBOURS + gap :] for gap in range(1, NEIGHBOURS + 1)]
        ),
    )


def _rank(values: Sequence[str]) -> Array:
    ranks: dict[str, int] = {}
    return np.array([ranks.setdefault(value, len(ranks)) for value in values], dtype=np.int64)


def _estimate(digests: Array, pairs: Array) -> Array:
    parts = [
        np.count_nonzero(digests[chunk[:, 0]] == digests[chunk[:, 1]], axis=1) / PERMUTATIONS
        for chunk in (pairs[start : start + PAIRS_IN_CACHE] for start in range(0, len(pairs), PAIRS_IN_CACHE))
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def compute_jaccard(shingles: Shingles, pairs: Array) -> Array:
    """Exact Jaccard similarity of pairs of rows, shape (pairs,)."""
    if not len(pairs):
        return np.zeros(0)
    wanted, places = np.unique(pairs, return_inverse=True)
    return _compute_jaccard(shingles.take(wanted), places.reshape(-1, 2))


def _compute_jaccard(shingles: Shingles, places: Array) -> Array:
    from scipy.sparse import csr_array

    numbered = pa.array(shingles.hashes).dictionary_encode()
    count = len(numbered.dictionary)
    rows, columns, sizes = _distinct(shingles, numbered.indices.to_numpy(), count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(rows), dtype=np.int32), columns, offsets), shape=(shingles.rows, count))
    shared: list[Array] = []
    for start in range(0, len(places), CHUNK):
        chunk = places[start : start + CHUNK]
        shared.append(np.asarray(matrix[chunk[:, 0]].multiply(matrix[chunk[:, 1]]).sum(axis=1)).ravel())
    common = np.concatenate(shared)
    similarity: Array = common / (sizes[places[:, 0]] + sizes[places[:, 1]] - common)
    return similarity
