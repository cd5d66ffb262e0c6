"""Near-duplicate pairs: MinHash (Broder 1997) with banded LSH proposes, exact Jaccard decides.

A row is represented by the set of character n-grams of its prompt together with those of its answer. Two rows are near
duplicates when

* the Jaccard similarity of these sets reaches the threshold,
* the similarity of the prompts alone reaches a threshold of its own, because a template answer to another question is
  no duplicate, and
* both contain the same numbers in the same order (unless ``numbers`` is false), because another order number or operand
  makes another row.

Rows that share a passage or a template reach the thresholds too: `tasks.corpus.similarity.differences` decides by what
differs between them where it is asked.

Every reported pair reaches the thresholds, so precision is 1; a pair can only be missed because LSH never proposes it.
The recall is measured on every run: a few hundred rows, the probes, are compared with all others without MinHash.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.similarity.differences import Differences
from tasks.corpus.similarity.minhash import PERMUTATIONS, bound_neighbours, estimate_jaccard, propose_pairs, sketch
from tasks.corpus.similarity.probes import MAX_PROBE_CHARACTERS, Probes, Recall, choose_probes, normalise_pairs
from tasks.corpus.similarity.shingles import Array, Shingles, Sides, compute_place_jaccard, read_numbers

# Five standard deviations of the estimate that 240 hashes give of a similarity of 0.9.
ESTIMATE_MARGIN = 0.1
# Bound the n-grams in memory: rows cut and signed at a time, and pairs whose rows are cut at a time.
ROWS_PER_BATCH, PAIRS_PER_BATCH = 8192, 20_000


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
    differences: Differences | None = None,
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
        differences: What makes rows different although they reach the thresholds; None: nothing.
    """
    if len(prompts) < 2:
        return SimilarPairs(np.zeros((0, 2), dtype=np.int64), np.zeros(0), np.zeros(0), Recall(0, 0, 0))
    sides = Sides(prompts, answers, size)
    groups = np.zeros(len(prompts), dtype=np.int64)
    if numbers:
        groups = _number_values([read_numbers(f"{p}\n{a}") for p, a in zip(prompts, answers, strict=True)])
    probe_rows = choose_probes(len(prompts), probes)
    is_short = [len(prompts[row]) + len(answers[row]) <= MAX_PROBE_CHARACTERS for row in probe_rows.tolist()]
    probe_rows = probe_rows[np.array(is_short, dtype=bool)]
    signatures, probe_pairs = _sign_rows(sides, threshold, probe_rows, spread, known_signatures)
    pairs = propose_pairs(signatures, groups)
    estimates = estimate_jaccard(signatures, pairs)
    crowded = np.zeros(len(prompts), dtype=bool)
    if differences:
        crowded = differences.find_crowded(pairs[estimates >= threshold], len(prompts))
    likely = estimates >= threshold - ESTIMATE_MARGIN
    pairs = bound_neighbours(pairs[likely], estimates[likely])

    def decide(candidates: Array) -> tuple[Array, Array, Array]:
        if differences:
            candidates = candidates[differences.accept(candidates, crowded)]
        return _filter_by_jaccard(sides, candidates, threshold, prompt_threshold)

    pairs, row_similarities, prompt_similarities = decide(pairs)
    true_pairs, _, _ = decide(normalise_pairs(probe_pairs, groups))
    true_codes = true_pairs @ np.array([len(prompts), 1])
    found = np.isin(true_codes, pairs @ np.array([len(prompts), 1]))
    recall = Recall(len(probe_rows), len(true_codes), int(found.sum()))
    return SimilarPairs(pairs, row_similarities, prompt_similarities, recall, signatures)


def _sign_rows(
    sides: Sides, threshold: float, probe_rows: Array, spread: Spread, known_signatures: Array | None
) -> tuple[Array, Array]:
    """The signatures of all rows, and the candidates of the probes as pairs of a probe and a row."""
    count = len(sides.prompts)
    probes = Probes(sides.cut_both(probe_rows.tolist()), threshold)
    batches = (
        Sides(sides.prompts[start : start + ROWS_PER_BATCH], sides.answers[start : start + ROWS_PER_BATCH], sides.size)
        for start in range(0, count, ROWS_PER_BATCH)
    )
    signatures = np.empty((count, PERMUTATIONS), dtype=np.uint32) if known_signatures is None else known_signatures
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    # Rows with known signatures are only searched for candidates of the probes.
    needed = known_signatures is None or len(probe_rows)
    for number, batch in enumerate(
        spread("sign", partial(sign_batch, probes, known_signatures is None), batches) if needed else ()
    ):
        start = number * ROWS_PER_BATCH
        if batch.signatures is not None:
            signatures[start : start + ROWS_PER_BATCH] = batch.signatures
        pairs.append(np.stack([probe_rows[batch.probes], batch.others + start], axis=1))
    return signatures, np.concatenate(pairs)


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
        similarities.append(compute_place_jaccard(cut(rows.tolist()), positions.reshape(-1, 2)))
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


def join_clusters(count: int, pairs: Array) -> list[int]:
    """Per row the first row of its connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, cluster = connected_components(graph, directed=False)
    _, first = np.unique(cluster, return_index=True)
    joined: list[int] = first[cluster].tolist()
    return joined


def _number_values(values: Sequence[Hashable]) -> Array:
    ranks: dict[Hashable, int] = {}
    return np.array([ranks.setdefault(value, len(ranks)) for value in values], dtype=np.int64)
