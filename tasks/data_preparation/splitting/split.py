"""Train, validation and test.

**Guarantee.** With the method ``content``, the default, the split of a row is a function of the seed, the shares and
the row's own prompt, folded: lower case, without spaces and sentence punctuation (`tasks.corpus.text.folds`).
``grouped``, ``time`` and ``column`` read the row's own column instead. Only a passage in the prompt, such as SQuAD's
context, looks at other rows, and only at earlier ones: up to 30 rows go where the first of them goes (`passages`).
Adding, removing or reordering rows therefore never moves a row that shares no passage from one split to another, and
one that does only with the first rows of its passage; another row can only cause it to be dropped as a duplicate. Rows
added after the others (at the end of the last source, or as a new last source) cannot even do that: of two conflicting
rows the later one is dropped, so all earlier rows stay as they were. The method ``stratified`` gives only that second
half of the guarantee.

**No leakage.** Rows whose prompts differ only in case, spaces or sentence punctuation have the same folded prompt and
so, with ``content``, the same split, and so have rows that share a passage of at least 30 words. Of any other two
rows in different splits whose similarity reaches ``duplicates.leak`` (and, where a column decides, of two rows with
the same folded prompt) the later one is dropped; moving it instead would let one row move another. Rows on one passage
that a column, ``train_only`` or the bounds of `passages` leave in different splits are kept, counted and reported by
the gate's check ``passages_in_one_split``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.contracts.errors import PipelineError, raise_all
from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.reading.unused_columns import DOCUMENT
from tasks.corpus.rows.rows import Rows, cut_messages, finish_step, join_turns, turn_lengths
from tasks.corpus.similarity.pairs import SimilarPairs, join_clusters
from tasks.corpus.similarity.probes import Recall
from tasks.corpus.text.draws import draw
from tasks.corpus.text.folds import fold_prompts
from tasks.data_preparation.screening.duplicates import (
    describe_recall,
    drop_signatures,
    find_near_duplicates,
    find_semantic_duplicates,
    show_pairs,
)
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.screening.similar_pairs import record_pairs
from tasks.data_preparation.splitting.methods.assignment import SPLITS, Assigned
from tasks.data_preparation.splitting.methods.content import Content
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.passages import (
    SHARES_PASSAGE,
    fill_splits,
    find_sentences,
    find_shared,
    name_passages,
)

# Column with the number of times a training row is repeated, set by balancing.
TIMES = "times"
# Column with the fingerprint of a row and its split at the time of the search for leaks.
SEEN = "seen"
SHOWN_CLASSES = 10
# Notes of the step: held-out rows with a passage that train has, and with a text that train and many rows have.
PASSAGE_IN_TRAIN, WIDE_TEXT_IN_TRAIN = "passage_in_train", "wide_text_in_train"

_MIX, _ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x100000001B3)


def split_examples(rows: Rows, settings: Split, duplicates: Duplicates, spread: Spread = IN_TURN) -> Rows:
    """Apply the weights below 1, assign the splits, and drop the rows that would leak between them.

    Args:
        rows: With ``id``.
        settings: Method, shares and seed.
        duplicates: Thresholds of similarity between rows of different splits.
        spread: Where the MinHash signatures are computed.

    Returns:
        The rows with the columns ``split`` and ``cluster``: a cluster is a connected component of the pairs whose
        similarity reaches the thresholds of leaks, named after the ``id`` of its first row.

    Raises:
        PipelineError: A split would be empty, or a class too small in one.
    """
    rows = _apply_weights(rows, settings.seed)
    folds = name_groups(rows.table, duplicates.numbers)
    sentences = find_sentences(rows.table, duplicates.numbers)
    groups = name_passages(rows.table, sentences, folds)
    assigned = settings.method.assign(rows.table, groups, settings, settings.min_per_class)
    if isinstance(settings.method, Content):
        shares = {"test": settings.test, "validation": settings.validation}
        assigned = Assigned(fill_splits(assigned.splits, groups, folds, shares), assigned.reasons)
    assigned = keep_in_train(assigned, rows, settings.train_only)
    splits = assigned.splits
    matches = _find_leaking(rows.table, duplicates, spread)
    rows = replace(rows, table=drop_signatures(rows.table))
    pairs = matches.pairs
    leaks = find_leaks(splits, pairs, folds)
    reasons = [why or leak for why, leak in zip(assigned.reasons, leaks, strict=True)]
    stays = np.array([reason is None for reason in reasons], dtype=bool)
    ids = rows.table["id"].to_pylist()
    clusters = join_clusters(len(ids), np.concatenate([pairs[stays[pairs].all(axis=1)], pair_parts(rows.table, stays)]))
    leaking = stays[pairs[:, 0]] & np.array([leak is not None for leak in leaks], dtype=bool)[pairs[:, 1]]
    rows = _record(rows, matches, leaking, stays)
    table = rows.table.append_column("split", pa.array(splits, pa.string())).append_column(
        "cluster", pa.array([ids[first] for first in clusters], pa.string())
    )
    kept = [name if stay else None for name, stay in zip(splits, stays.tolist(), strict=True)]
    shared = find_shared(rows.table, sentences, kept)
    table = table.append_column(SHARES_PASSAGE, pa.array(shared.passages.astype(np.int64)))
    table = table.append_column(SEEN, pa.array(fingerprint_rows(table), pa.uint64()))
    rows = finish_step(rows, "split", table, reasons, examples=show_pairs(rows.table, pairs[leaking]))
    counts = Counter(rows.table["split"].to_pylist())
    found = len(set(groups))
    raise_all([_explain_empty(name, len(groups), found, settings) for name in SPLITS if not counts[name]], "split")
    notes: dict[str, int | float] = {name: counts[name] for name in SPLITS}
    notes |= describe_recall(matches)
    notes |= {PASSAGE_IN_TRAIN: int(shared.passages.sum()), WIDE_TEXT_IN_TRAIN: int(shared.wide.sum())}
    if settings.min_per_class:
        notes["small_classes"] = _check_classes(rows.table, settings)
    return replace(rows, steps=(*rows.steps[:-1], replace(rows.steps[-1], notes=notes)))


def keep_in_train(assigned: Assigned, rows: Rows, titles: Sequence[str]) -> Assigned:
    """The same assignment, but with all rows of some sources in train, also those without a split.

    Raises:
        PipelineError: There is no such source.
    """
    known = [origin.title for origin in rows.origins]
    if unknown := sorted(set(titles) - set(known)):
        raise PipelineError(
            f'split: train_only names "{unknown[0]}", but the sources are {", ".join(known)}; correct the title'
        )
    train_only = [source in titles for source in rows.table["source"].to_pylist()]
    return Assigned(
        ["train" if forced else split for forced, split in zip(train_only, assigned.splits, strict=True)],
        [None if forced else reason for forced, reason in zip(train_only, assigned.reasons, strict=True)],
    )


def _explain_empty(name: str, rows: int, groups: int, settings: Split) -> str:
    if not settings.method.uses_shares:
        return (
            f"split: method {settings.method.name} assigned none of {rows} rows to {name}; "
            "check the values of its column and data_preparation.split.method"
        )
    share = settings.list_shares({})[name]
    found = f"{rows} rows" if groups == rows else f"{rows} rows, which share {groups} prompts or passages,"
    return (
        f"split: none of {found} was assigned to {name}, whose share is {share:.2g}; "
        "add rows, raise its share in data_preparation.split, or set its method to {name: stratified} and its "
        "min_per_class to 1, which fills every split"
    )


def _find_leaking(table: pa.Table, duplicates: Duplicates, spread: Spread) -> SimilarPairs:
    no_pairs = np.zeros((0, 2), dtype=np.int64)
    near = SimilarPairs(no_pairs, np.zeros(0), np.zeros(0), Recall(0, 0, 0))
    if duplicates.near:
        near = find_near_duplicates(table, duplicates, leaks=True, probes=duplicates.probes, spread=spread)
    if duplicates.semantic is None:
        return near
    semantic = find_semantic_duplicates(table, duplicates, leaks=True)
    pairs, first = np.unique(np.concatenate([near.pairs, semantic.pairs]), axis=0, return_index=True)
    rows, prompts = np.concatenate([near.rows, semantic.rows]), np.concatenate([near.prompts, semantic.prompts])
    return SimilarPairs(pairs, rows[first], prompts[first], near.recall)


def _record(rows: Rows, matches: SimilarPairs, leaking: np.ndarray[Any, Any], stays: np.ndarray[Any, Any]) -> Rows:
    # One pair per row, the first, is recorded.
    for kind, mask, dropped in (("across splits", leaking, True), ("alike", stays[matches.pairs].all(axis=1), False)):
        places = np.flatnonzero(mask)
        _, first = np.unique(matches.pairs[places, 1], return_index=True)
        chosen = places[first]
        pairs, similarity, prompts = matches.pairs[chosen], matches.rows[chosen], matches.prompts[chosen]
        rows = record_pairs(rows, rows.table, kind, pairs, similarity, prompts, dropped)
    return rows


def _check_classes(table: pa.Table, settings: Split) -> int:
    counts_of: dict[str, Counter[str]] = defaultdict(Counter)
    for label, split in zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True):
        if label is not None:
            counts_of[label][split] += 1
    minimum = settings.min_per_class
    small = sorted(label for label, counts in counts_of.items() if any(counts[name] < minimum for name in SPLITS))
    if small and settings.on_small_class == "stop":
        shown = [
            f"{label} ({', '.join(f'{n} {counts_of[label][n]}' for n in SPLITS)})" for label in small[:SHOWN_CLASSES]
        ]
        raise PipelineError(
            f"split: {len(small)} of {len(counts_of)} labels have fewer than {minimum} rows in a split: "
            f"{'; '.join(shown)}; add rows of them, lower data_preparation.split.min_per_class, take method "
            "stratified, or set on_small_class: keep"
        )
    return len(small)


def _apply_weights(rows: Rows, seed: int) -> Rows:
    weights = {origin.title: origin.weight for origin in rows.origins}
    if all(weight >= 1 for weight in weights.values()):
        return rows
    reasons = [
        None if draw("weight", seed, name) < weights[source] else "outside the source's share"
        for source, name in zip(rows.table["source"].to_pylist(), rows.table["id"].to_pylist(), strict=True)
    ]
    weighted = finish_step(rows, "weights", rows.table, reasons)
    if not weighted.table.num_rows:
        raise PipelineError("weights: no rows remain; raise weight in data_preparation.sources")
    return weighted


def name_groups(table: pa.Table, numbers: bool = True) -> list[str]:
    """Per row what may stand in one split only: the folded prompt, or the document of a chunk.

    Args:
        table: The rows.
        numbers: Whether prompts with different numbers are different.
    """
    folds: list[str] = []
    for messages in cut_messages(table):
        prompts = join_turns(messages, ["user"])
        if "" in prompts:
            # A plain text has no prompt, and the whole text decides.
            texts = join_turns(messages, ["assistant"])
            prompts = [prompt or text for prompt, text in zip(prompts, texts, strict=True)]
        folds += fold_prompts(pl.Series(prompts, dtype=pl.String), numbers).to_list()
    if DOCUMENT not in table.column_names:
        return folds
    # All chunks of a document belong to the same split.
    return [
        f"document\0{name}" if name else fold for name, fold in zip(table[DOCUMENT].to_pylist(), folds, strict=True)
    ]


def pair_parts(table: pa.Table, stays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pairs that join the kept chunks of each document: the first with each of the others."""
    first: dict[str, int] = {}
    names = table[DOCUMENT].to_pylist() if DOCUMENT in table.column_names else []
    pairs = [(first.setdefault(name, row), row) for row, name in enumerate(names) if name and stays[row]]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def fingerprint_rows(table: pa.Table) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Per row a hash of its conversation and its split, the same within one process."""
    splits = pl.Series(table["split"]).hash(2).to_numpy()
    pieces = [np.zeros(0, dtype=np.uint64), *map(_fingerprint, cut_messages(table))]
    with np.errstate(over="ignore"):
        fingerprints: np.ndarray[Any, np.dtype[np.uint64]] = np.concatenate(pieces) * _MIX ^ splits
    return fingerprints


def _fingerprint(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    turns, lengths = messages.flatten(), turn_lengths(messages)
    ends = np.cumsum(lengths)
    position = np.arange(len(turns)) - np.repeat(ends - lengths, lengths)
    contents, roles = (pl.Series(turns.field(name)).hash(seed=1).to_numpy() for name in ("content", "role"))
    with np.errstate(over="ignore"):
        turn_hashes = ((contents * _ODD) ^ roles) * (position.astype(np.uint64) * _MIX + _ODD)
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(turn_hashes, dtype=np.uint64)])
        conversations: np.ndarray[Any, np.dtype[np.uint64]] = sums[ends] - sums[ends - lengths]
    return conversations


def find_leaks(
    splits: Sequence[str | None], pairs: np.ndarray[Any, Any], folds: Sequence[str] = ()
) -> list[str | None]:
    """Reasons to drop rows that are similar to an earlier, kept row of another split.

    Args:
        splits: Split of each row; None for a row that is dropped anyway.
        pairs: Pairs of similar rows, shape (pairs, 2), the earlier row first.
        folds: Folded prompts, where rows with the same one may be in different splits.

    Returns:
        Per row the reason, None where it is kept.
    """
    reasons: list[str | None] = [None] * len(splits)
    earlier: dict[int, list[int]] = defaultdict(list)
    for first, second in pairs.tolist():
        earlier[second].append(first)
    first_of: dict[str, int] = {}
    split_of: dict[str, str] = {}
    # With the method content a folded prompt is in one split only, and this set is empty.
    divided = {
        fold for fold, split in zip(folds, splits, strict=False) if split and split_of.setdefault(fold, split) != split
    }
    for row in range(len(splits)) if divided else sorted(earlier):
        if splits[row] is None:
            continue
        others = earlier.get(row, [])
        if divided and folds[row] in first_of:
            others = [*others, first_of[folds[row]]]
        conflicts = [o for o in others if splits[o] is not None and reasons[o] is None and splits[o] != splits[row]]
        if conflicts:
            reasons[row] = f"{splits[row]} row too like one of {splits[conflicts[-1]]}"
        elif divided:
            first_of.setdefault(folds[row], row)
    return reasons


def repeat_train(table: pa.Table, rows: Rows, seed: int) -> pa.Table:
    """Training rows, repeated as balancing or the weight of their source requires; all first copies come first."""
    times = table[TIMES].to_pylist() if TIMES in table.column_names else count_repeats(table, rows, seed)
    rounds = [[row for row, count in enumerate(times) if count > turn] for turn in range(max(times, default=0))]
    return table.take(pa.array([row for turn in rounds for row in turn], pa.int64()))


def count_repeats(table: pa.Table, rows: Rows, seed: int) -> list[int]:
    """Number of times each row is repeated in train, by the weight of its source."""
    weights = {origin.title: origin.weight for origin in rows.origins}
    return [
        int(weights[source]) + (draw("repeat", seed, name) < weights[source] % 1) if weights.get(source, 1) > 1 else 1
        for source, name in zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
    ]
