"""Exact, near and semantic duplicates.

Rows are taken in their order (sources as in params, then rows), and a row leaves when an earlier one that stays
is its duplicate. A chain of rows, each a little unlike the one before, therefore keeps members that are unlike
each other instead of collapsing into one; and rows appended at the end cannot make an earlier row leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.contracts.records import content_ids
from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.reading.answers import join_answers
from tasks.corpus.rows.rows import Rows, cut_messages, finish_step, join_turns
from tasks.corpus.rows.texts import EXAMPLES, show_conversation
from tasks.corpus.similarity import PERMUTATIONS, SimilarPairs, find_similar_pairs
from tasks.data_preparation.screening.params import Closeness, Duplicates, Likeness
from tasks.data_preparation.screening.semantic import find_same_meaning
from tasks.data_preparation.screening.twins import record_twins

# Columns with the signatures of the rows, until leaks were looked for, by the length of the n-grams.
SIGNATURES = "signatures:"


def remove_duplicates(rows: Rows, settings: Duplicates, spread: Spread = IN_TURN) -> Rows:
    """Drop exact duplicates, then near and semantic ones if only one of them is wanted.

    Args:
        rows: Cleaned rows.
        settings: Thresholds, and whether near duplicates are kept.
        spread: Where rows are signed.

    Returns:
        The rows with the column ``id``.
    """
    rows = drop_exact(rows)
    if settings.keep == "all":
        return rows
    if settings.near:
        alike = find_near(rows.table, settings, settings.same, settings.probes, spread)
        rows = _drop_alike(rows, "near", alike, f"{SIGNATURES}{settings.shingle}")
    if settings.semantic:
        rows = _drop_alike(rows, "semantic", find_semantic(rows.table, settings, settings.semantic.same))
    return rows


def _drop_alike(rows: Rows, kind: str, alike: SimilarPairs, signatures: str = "") -> Rows:
    twins = choose_first(rows.table.num_rows, alike.pairs)
    reasons = [None if twin == row else f"{kind} duplicate of an earlier row" for row, twin in enumerate(twins)]
    chosen = np.array([twins[second] == first for first, second in alike.pairs.tolist()], dtype=bool)
    pairs = alike.pairs[chosen]
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    rows = record_twins(
        rows, rows.table, kind, alike.pairs[chosen], alike.rows[chosen], alike.prompts[chosen], dropped=True
    )
    examples = show_pairs(rows.table, pairs)
    rows = finish_step(rows, f"{kind} duplicates", rows.table, reasons, examples=examples, notes=describe_recall(alike))
    if alike.signatures is None:
        return rows
    kept = alike.signatures[[reason is None for reason in reasons]]
    column = pa.FixedSizeListArray.from_arrays(pa.array(kept.ravel()), PERMUTATIONS)
    return replace(rows, table=rows.table.append_column(signatures, column))


def describe_recall(alike: SimilarPairs) -> dict[str, int | float]:
    """The measured recall as figures of a step; none where nothing was probed."""
    recall = alike.recall
    if not recall.probes:
        return {}
    return {
        "recall_probes": recall.probes,
        "recall_pairs": recall.pairs,
        "recall": round(recall.share, 6),
        "recall_low": round(recall.low, 6),
    }


def drop_exact(rows: Rows) -> Rows:
    """Drop rows whose conversation stood before; adds the column ``id``."""
    ids = [name for messages in cut_messages(rows.table) for name in content_ids(messages)]
    seen: dict[str, int] = {}
    pairs = [(first, row) for row, name in enumerate(ids) if (first := seen.setdefault(name, row)) != row]
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    reasons: list[str | None] = [None] * len(ids)
    labels = (rows.table["label"].take(pa.array(side)).to_pylist() for side in found.T)
    for row, label, other in zip(found[:, 1].tolist(), *labels, strict=True):
        reasons[row] = "same conversation again" + ("" if label == other else ", under another label")
    table = join_answers(rows.table, pairs).append_column("id", pa.array(ids, pa.string()))
    rows = record_twins(rows, table, "exact", found, np.ones(len(found)), np.ones(len(found)), dropped=True)
    return finish_step(rows, "exact duplicates", table, reasons)


def split_sides(table: pa.Table, asking: Sequence[str] = ("system", "user", "tool")) -> tuple[list[str], list[str]]:
    """Per row the text that is asked, of these roles, and the text that answers."""
    prompts: list[str] = []
    answers: list[str] = []
    for messages in cut_messages(table):
        prompts += join_turns(messages, asking)
        answers += join_turns(messages, ["assistant"])
    return prompts, answers


def find_near(
    table: pa.Table, settings: Duplicates, likeness: Likeness, probes: int = 0, spread: Spread = IN_TURN
) -> SimilarPairs:
    """Near duplicates of a likeness, see `find_similar_pairs`.

    Rows that bring their signatures are not signed again, and the recall of these is measured already.
    """
    prompts, answers = split_sides(table)
    name, known = f"{SIGNATURES}{settings.shingle}", None
    if name in table.column_names and table.num_rows:
        pieces = [piece.flatten().to_numpy() for piece in table[name].chunks]
        known = (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)).reshape(-1, PERMUTATIONS)
    return find_similar_pairs(
        prompts,
        answers,
        likeness.rows,
        likeness.prompts,
        settings.shingle,
        settings.numbers,
        0 if known is not None else probes,
        spread,
        known,
    )


def drop_signatures(table: pa.Table) -> pa.Table:
    """The table without the signatures of its rows."""
    return table.select([name for name in table.column_names if not name.startswith(SIGNATURES)])


def find_semantic(table: pa.Table, settings: Duplicates, closeness: Closeness) -> SimilarPairs:
    """Rows that mean the same, see `find_same_meaning`.

    System turns are left out: a long one that rows share would make all of their prompts alike.
    """
    assert settings.semantic is not None
    prompts, answers = split_sides(table, ("user", "tool"))
    return find_same_meaning(prompts, answers, settings.semantic, closeness, settings.numbers)


def find_pairs(table: pa.Table, likeness: Likeness, shingle: int, numbers: bool = True) -> np.ndarray[Any, Any]:
    """Pairs of rows that are alike, see `find_similar_pairs`."""
    prompts, answers = split_sides(table)
    return find_similar_pairs(prompts, answers, likeness.rows, likeness.prompts, shingle, numbers).pairs


def choose_first(count: int, pairs: np.ndarray[Any, Any]) -> list[int]:
    """Per row the earlier kept row it duplicates, or itself when it is kept."""
    earlier: dict[int, list[int]] = defaultdict(list)
    for first, second in pairs.tolist():
        earlier[second].append(first)
    twins = list(range(count))
    for row in sorted(earlier):
        kept = [other for other in earlier[row] if twins[other] == other]
        if kept:
            twins[row] = min(kept)
    return twins


def show_pairs(table: pa.Table, pairs: np.ndarray[Any, Any]) -> list[tuple[str, str]]:
    """The first pairs, the later row of each before the earlier one."""
    shown = pairs[:EXAMPLES]
    if not len(shown):
        return []
    texts = {row: show_conversation(table["messages"][row].as_py(), 160) for row in set(shown.ravel().tolist())}
    return [(texts[second], texts[first]) for first, second in shown.tolist()]
