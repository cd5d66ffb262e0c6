"""Near duplicates between two lists of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.corpus.similarity.minhash import PAIRS_PER_ESTIMATE, PERMUTATIONS, key_bands, sketch, sort_unique
from tasks.corpus.similarity.pairs import ESTIMATE_MARGIN, PAIRS_PER_BATCH, ROWS_PER_BATCH
from tasks.corpus.similarity.shingles import Array, compute_place_jaccard, cut_shingles, fold_texts


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
    bands = (key_bands(side.signatures, np.zeros(len(side.texts), dtype=np.int64)) for side in (first, second))
    for first_keys, second_keys in zip(*bands, strict=True):
        order = np.argsort(first_keys, kind="stable")
        sorted_keys = first_keys[order]
        # Most keys occur in one list only, so the end of a run is searched for few of them.
        low = np.searchsorted(sorted_keys, second_keys)
        matched = np.flatnonzero(low < len(sorted_keys))
        matched = matched[sorted_keys[low[matched]] == second_keys[matched]]
        low = low[matched]
        count = np.searchsorted(sorted_keys, second_keys[matched], side="right") - low
        owner = np.repeat(matched, count)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
        candidate_codes.append(sort_unique(order[position] * len(second.texts) + owner))
    codes = sort_unique(np.concatenate(candidate_codes))
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
        yield compute_place_jaccard(shingles, np.stack([left_positions, right_positions + len(left)], axis=1))
