"""Train, validation and test.

**Guarantee.** With the method ``content``, the default, the split of a row is a function of the seed, the shares and
the row's own prompt, folded: lower case, without spaces and punctuation, every number the same. ``grouped``,
``time`` and ``column`` read the row's own column instead. No other row takes part in it. Adding, removing
or reordering rows therefore never moves a row from one split to another; all another row can do is to have it
dropped as a duplicate. Rows added after the others (at the end of the last source, or as a new last source)
cannot even do that: of two rows in conflict the later one leaves, so everything before stays as it was. The method
``stratified`` gives that second half of the guarantee only.

**Nothing leaks.** Rows that differ in numbers, case or punctuation of their prompt have one fold and so, by content,
one split. Of any other two rows as alike as ``duplicates.leak`` (and, where a column decides, of two rows of one
fold) in different splits the later one is dropped; moving it instead would let one row move another.
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
from tasks.corpus.similarity import Recall, SimilarPairs, join_clusters
from tasks.corpus.text.draws import draw
from tasks.corpus.text.folds import fold_prompts
from tasks.data_preparation.screening.duplicates import (
    describe_recall,
    drop_signatures,
    find_near,
    find_semantic,
    show_pairs,
)
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.screening.twins import record_twins
from tasks.data_preparation.splitting.methods.assignment import SPLITS, Assigned
from tasks.data_preparation.splitting.params import Split

__all__ = ["SPLITS", "draw", "split_examples"]

# Column with how often a training row is to be there, where balancing says so.
TIMES = "times"
# Column with what a row and its split were when leaks were looked for.
SEEN = "seen"
SHOWN_CLASSES = 10

_MIX, _ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x100000001B3)


def split_examples(rows: Rows, settings: Split, duplicates: Duplicates, spread: Spread = IN_TURN) -> Rows:
    """Apply the weights below 1, assign the splits, and drop what would leak.

    Args:
        rows: With ``id``.
        settings: Method, shares and seed.
        duplicates: How alike rows of different splits may be.
        spread: Where rows are signed.

    Returns:
        The rows with the columns ``split`` and ``cluster``: rows as alike as the limit for leaks, directly or
        through others, form one cluster, named after its first row.

    Raises:
        PipelineError: A split would be empty, or a class too small in one.
    """
    rows = _apply_weights(rows, settings.seed)
    folds = name_groups(rows.table)
    assigned = settings.method.assign(rows.table, folds, settings, settings.min_per_class)
    assigned = keep_in_train(assigned, rows, settings.train_only)
    splits = assigned.splits
    alike = _find_leaking(rows.table, duplicates, spread)
    rows = replace(rows, table=drop_signatures(rows.table))
    pairs = alike.pairs
    leaks = find_leaks(splits, pairs, folds)
    reasons = [why or leak for why, leak in zip(assigned.reasons, leaks, strict=True)]
    stays = np.array([reason is None for reason in reasons], dtype=bool)
    ids = rows.table["id"].to_pylist()
    clusters = join_clusters(len(ids), np.concatenate([pairs[stays[pairs].all(axis=1)], pair_parts(rows.table, stays)]))
    leaking = stays[pairs[:, 0]] & np.array([leak is not None for leak in leaks], dtype=bool)[pairs[:, 1]]
    rows = _record(rows, alike, leaking, stays)
    table = rows.table.append_column("split", pa.array(splits, pa.string())).append_column(
        "cluster", pa.array([ids[first] for first in clusters], pa.string())
    )
    table = table.append_column(SEEN, pa.array(fingerprint_rows(table), pa.uint64()))
    rows = finish_step(rows, "split", table, reasons, examples=show_pairs(rows.table, pairs[leaking]))
    counts = Counter(rows.table["split"].to_pylist())
    raise_all([_explain_empty(name, rows.table.num_rows, settings) for name in SPLITS if not counts[name]], "split")
    notes: dict[str, int | float] = {name: counts[name] for name in SPLITS}
    notes |= describe_recall(alike)
    if settings.min_per_class:
        notes["small_classes"] = _check_classes(rows.table, settings)
    return replace(rows, steps=(*rows.steps[:-1], replace(rows.steps[-1], notes=notes)))


def keep_in_train(assigned: Assigned, rows: Rows, titles: Sequence[str]) -> Assigned:
    """The same, with all rows of some sources in train, also where the method had no place for them.

    Raises:
        PipelineError: There is no such source.
    """
    known = [origin.title for origin in rows.origins]
    if unknown := sorted(set(titles) - set(known)):
        raise PipelineError(
            f'split: train_only names "{unknown[0]}", but the sources are {", ".join(known)}; correct the title'
        )
    own = [source in titles for source in rows.table["source"].to_pylist()]
    return Assigned(
        ["train" if mine else split for mine, split in zip(own, assigned.splits, strict=True)],
        [None if mine else reason for mine, reason in zip(own, assigned.reasons, strict=True)],
    )


def _explain_empty(name: str, rows: int, settings: Split) -> str:
    if not settings.method.uses_shares:
        return (
            f"split: {rows} rows gave none for {name} by {settings.method.name}; "
            "check the values of its column and data_preparation.split.method"
        )
    share = settings.list_shares({})[name]
    return (
        f"split: {rows} rows gave none for {name}, whose share is {share:.2g}; "
        "add rows, raise its share in data_preparation.split, or take another seed"
    )


def _find_leaking(table: pa.Table, duplicates: Duplicates, spread: Spread) -> SimilarPairs:
    none = np.zeros((0, 2), dtype=np.int64)
    near = SimilarPairs(none, np.zeros(0), np.zeros(0), Recall(0, 0, 0))
    if duplicates.near:
        near = find_near(table, duplicates, duplicates.leak, duplicates.probes, spread)
    if duplicates.semantic is None:
        return near
    meant = find_semantic(table, duplicates, duplicates.semantic.leak)
    pairs, first = np.unique(np.concatenate([near.pairs, meant.pairs]), axis=0, return_index=True)
    rows, prompts = np.concatenate([near.rows, meant.rows]), np.concatenate([near.prompts, meant.prompts])
    return SimilarPairs(pairs, rows[first], prompts[first], near.recall)


def _record(rows: Rows, alike: SimilarPairs, leaking: np.ndarray[Any, Any], stays: np.ndarray[Any, Any]) -> Rows:
    # Of each row the first pair says enough.
    for kind, wanted, dropped in (("across splits", leaking, True), ("alike", stays[alike.pairs].all(axis=1), False)):
        places = np.flatnonzero(wanted)
        _, first = np.unique(alike.pairs[places, 1], return_index=True)
        chosen = places[first]
        pairs, similarity, prompts = alike.pairs[chosen], alike.rows[chosen], alike.prompts[chosen]
        rows = record_twins(rows, rows.table, kind, pairs, similarity, prompts, dropped)
    return rows


def _check_classes(table: pa.Table, settings: Split) -> int:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for label, split in zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True):
        if label is not None:
            found[label][split] += 1
    least = settings.min_per_class
    small = sorted(label for label, counts in found.items() if any(counts[name] < least for name in SPLITS))
    if small and settings.on_small_class == "stop":
        shown = [f"{label} ({', '.join(f'{n} {found[label][n]}' for n in SPLITS)})" for label in small[:SHOWN_CLASSES]]
        raise PipelineError(
            f"split: {len(small)} of {len(found)} labels have fewer than {least} rows in a split: {'; '.join(shown)}; "
            "add rows of them, lower data_preparation.split.min_per_class, take method stratified, or set "
            "on_small_class: keep"
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
    out = finish_step(rows, "weights", rows.table, reasons)
    if not out.table.num_rows:
        raise PipelineError("weights: none of the rows is left; raise weight in data_preparation.sources")
    return out


def name_groups(table: pa.Table) -> list[str]:
    """Per row the folded prompt that decides its split."""
    folds: list[str] = []
    for messages in cut_messages(table):
        prompts = join_turns(messages, ["user"])
        if "" in prompts:
            # Plain text has no prompt: all of it decides.
            texts = join_turns(messages, ["assistant"])
            prompts = [prompt or text for prompt, text in zip(prompts, texts, strict=True)]
        folds += fold_prompts(pl.Series(prompts, dtype=pl.String)).to_list()
    if DOCUMENT not in table.column_names:
        return folds
    # And where it was cut, all of the document.
    return [
        f"document\0{name}" if name else fold for name, fold in zip(table[DOCUMENT].to_pylist(), folds, strict=True)
    ]


def pair_parts(table: pa.Table, stays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The first part of each document that stays, with each of its other parts that stay."""
    first: dict[str, int] = {}
    names = table[DOCUMENT].to_pylist() if DOCUMENT in table.column_names else []
    pairs = [(first.setdefault(name, row), row) for row, name in enumerate(names) if name and stays[row]]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def fingerprint_rows(table: pa.Table) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Per row a hash of its conversation and its split, the same within one process."""
    splits = pl.Series(table["split"]).hash(2).to_numpy()
    pieces = [np.zeros(0, dtype=np.uint64), *map(_fingerprint, cut_messages(table))]
    with np.errstate(over="ignore"):
        seen: np.ndarray[Any, np.dtype[np.uint64]] = np.concatenate(pieces) * _MIX ^ splits
    return seen


def _fingerprint(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    turns, lengths = messages.flatten(), turn_lengths(messages)
    ends = np.cumsum(lengths)
    place = np.arange(len(turns)) - np.repeat(ends - lengths, lengths)
    said, by = (pl.Series(turns.field(name)).hash(seed=1).to_numpy() for name in ("content", "role"))
    with np.errstate(over="ignore"):
        each = ((said * _ODD) ^ by) * (place.astype(np.uint64) * _MIX + _ODD)
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(each, dtype=np.uint64)])
        conversations: np.ndarray[Any, np.dtype[np.uint64]] = sums[ends] - sums[ends - lengths]
    return conversations


def find_leaks(
    splits: Sequence[str | None], pairs: np.ndarray[Any, Any], folds: Sequence[str] = ()
) -> list[str | None]:
    """Reasons to drop rows that are like an earlier, staying row of another split.

    Args:
        splits: Of each row; None for one that leaves anyway.
        pairs: Rows that are alike, the earlier first.
        folds: Folded prompts, where rows of one fold may be in different splits.
    """
    reasons: list[str | None] = [None] * len(splits)
    earlier: dict[int, list[int]] = defaultdict(list)
    for first, second in pairs.tolist():
        earlier[second].append(first)
    first_of: dict[str, int] = {}
    split_of: dict[str, str] = {}
    # By content no fold is in two splits, and its rows cannot clash.
    apart = {
        fold for fold, split in zip(folds, splits, strict=False) if split and split_of.setdefault(fold, split) != split
    }
    for row in range(len(splits)) if apart else sorted(earlier):
        if splits[row] is None:
            continue
        others = earlier.get(row, [])
        if apart and folds[row] in first_of:
            others = [*others, first_of[folds[row]]]
        clash = [o for o in others if splits[o] is not None and reasons[o] is None and splits[o] != splits[row]]
        if clash:
            reasons[row] = f"{splits[row]} row too like one of {splits[clash[-1]]}"
        elif apart:
            first_of.setdefault(folds[row], row)
    return reasons


def repeat_train(table: pa.Table, rows: Rows, seed: int) -> pa.Table:
    """Training rows as often as balancing or the weight of their source says; the first time in order, then again."""
    times = table[TIMES].to_pylist() if TIMES in table.column_names else count_repeats(table, rows, seed)
    rounds = [[row for row, count in enumerate(times) if count > turn] for turn in range(max(times, default=0))]
    return table.take(pa.array([row for turn in rounds for row in turn], pa.int64()))


def count_repeats(table: pa.Table, rows: Rows, seed: int) -> list[int]:
    """How often each row of a table is in train by the weight of its source."""
    weights = {origin.title: origin.weight for origin in rows.origins}
    return [
        int(weights[source]) + (draw("repeat", seed, name) < weights[source] % 1) if weights.get(source, 1) > 1 else 1
        for source, name in zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
    ]
