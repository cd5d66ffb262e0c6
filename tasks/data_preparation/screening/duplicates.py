"""Exact, near and semantic duplicates.

Rows are compared in their order (sources as in params, then rows), and a row is dropped when an earlier row that is
kept is its duplicate. In a chain of rows, each slightly different from the one before, the members that differ enough
from each other are therefore kept, instead of all but one being dropped; and rows appended at the end cannot cause an
earlier row to be dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.contracts.records import UNTRAINED, content_ids
from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.reading.answers import COLUMN as ANSWERS
from tasks.corpus.reading.joining import join_repeats, list_conflicts
from tasks.corpus.rows.rows import Listing, Rows, column_messages, cut_messages, finish_step, join_turns
from tasks.corpus.rows.texts import EXAMPLES, list_changed_words, show_change, show_conversation
from tasks.corpus.similarity.differences import Differences, Texts
from tasks.corpus.similarity.minhash import PERMUTATIONS
from tasks.corpus.similarity.pairs import SimilarPairs, find_similar_pairs
from tasks.corpus.text.folds import fold_prompt
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.screening.semantic import compare_embeddings
from tasks.data_preparation.screening.similar_pairs import record_pairs

# Prefix of the column with the MinHash signatures, followed by the length of the n-grams. The column is removed once
# the search for leaks between splits has used it.
SIGNATURES = "signatures:"
# Pairs of a dropped and a kept row that the pages show with what differs.
SHOWN_PAIRS = 12


def remove_duplicates(rows: Rows, settings: Duplicates, spread: Spread = IN_TURN) -> Rows:
    """Drop exact duplicates, then near and semantic ones unless ``keep`` is ``all``.

    Args:
        rows: Cleaned rows.
        settings: Thresholds, and whether near duplicates are kept.
        spread: Where the MinHash signatures are computed.

    Returns:
        The rows with the column ``id``.
    """
    rows = drop_exact_duplicates(rows)
    if settings.keep == "all":
        return rows
    if settings.near:
        matches = find_near_duplicates(rows.table, settings, leaks=False, probes=settings.probes, spread=spread)
        rows = _drop_similar(rows, "near", matches, settings, f"{SIGNATURES}{settings.shingle}")
    if settings.semantic:
        matches = find_semantic_duplicates(rows.table, settings, leaks=False)
        rows = _drop_similar(rows, "semantic", matches, settings)
    return rows


def _drop_similar(rows: Rows, kind: str, matches: SimilarPairs, settings: Duplicates, signatures: str = "") -> Rows:
    pairs = _exclude_new_answers(rows.table, matches.pairs) if settings.answers else matches.pairs
    originals = find_kept_originals(rows.table.num_rows, pairs)
    reasons = _explain(rows.table, kind, originals)
    chosen = np.array([originals[second] == first for first, second in matches.pairs.tolist()], dtype=bool)
    pairs = matches.pairs[chosen]
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    rows = record_pairs(
        rows, rows.table, kind, matches.pairs[chosen], matches.rows[chosen], matches.prompts[chosen], dropped=True
    )
    examples = show_pairs(rows.table, pairs)
    rows = finish_step(
        rows,
        f"{kind} duplicates",
        rows.table,
        reasons,
        examples=examples,
        notes=describe_recall(matches),
        listings=_list_pairs(rows.table, kind, matches, chosen, reasons),
    )
    if matches.signatures is None:
        return rows
    kept = matches.signatures[[reason is None for reason in reasons]]
    column = pa.FixedSizeListArray.from_arrays(pa.array(kept.ravel()), PERMUTATIONS)
    return replace(rows, table=rows.table.append_column(signatures, column))


def _list_pairs(
    table: pa.Table, kind: str, matches: SimilarPairs, chosen: np.ndarray[Any, Any], reasons: Sequence[str | None]
) -> list[Listing]:
    """Examples of dropped rows beside the rows that were kept, evenly spread, with what differs."""
    places = np.flatnonzero(chosen)
    shown = places[:: max(-(-len(places) // SHOWN_PAIRS), 1)]
    lines: list[tuple[str | float, ...]] = []
    for place in shown.tolist():
        first, second = matches.pairs[place].tolist()
        kept, dropped = (
            " ¶ ".join(turn["content"] for turn in table["messages"][row].as_py()) for row in (first, second)
        )
        lines.append(
            (
                *show_change(dropped, kept),
                *(words or "–" for words in list_changed_words(dropped, kept)),
                round(float(matches.rows[place]), 3),
                reasons[second] or "",
            )
        )
    if not lines:
        return []
    columns = ("dropped", "kept", "only in the dropped row", "only in the kept row", "similarity", "reason")
    note = f"{len(lines)} of {len(places):,} dropped rows, around the first difference."
    return [Listing(f"What differs between {kind} duplicates", columns, tuple(lines), note)]


def _exclude_new_answers(table: pa.Table, pairs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Without the pairs whose later row teaches what the earlier one does not.

    That is an answer that its own is compared with, or an answer of the conversation that carries no loss in the
    earlier row.
    """
    kept = np.ones(len(pairs), dtype=bool)
    if ANSWERS in table.column_names and len(pairs):
        compared = [
            {fold_prompt(turn["content"]) for other in value["others"] for turn in other["turns"]} if value else set()
            for value in table[ANSWERS].to_pylist()
        ]
        kept &= np.array([compared[b] <= compared[a] for a, b in pairs.tolist()], dtype=bool)
    if UNTRAINED.name in table.column_names and len(pairs):
        untrained = [set(places or ()) for places in table[UNTRAINED.name].to_pylist()]
        kept &= np.array([untrained[a] <= untrained[b] for a, b in pairs.tolist()], dtype=bool)
    remaining: np.ndarray[Any, Any] = pairs[kept]
    return remaining


def _explain(table: pa.Table, kind: str, originals: Sequence[int]) -> list[str | None]:
    """Per row the reason to drop it, which names another label or another answer; None for a row that is kept."""
    reasons: list[str | None] = [None] * len(originals)
    dropped = [row for row, original in enumerate(originals) if original != row]
    # The dropped rows, and then the rows that they repeat.
    both = table.select(["label", "messages"]).take(
        pa.array([*dropped, *(originals[row] for row in dropped)], pa.int64())
    )
    labels = both["label"].to_pylist()
    answers = Texts(join_turns(column_messages(both), ["assistant"]), 1)
    for place, row in enumerate(dropped):
        kept = place + len(dropped)
        difference = ""
        if labels[place] != labels[kept] and None not in (labels[place], labels[kept]):
            difference = ", under another label"
        elif not answers.have_same_wording(place, kept, may_add=0):
            difference = ", with another answer"
        reasons[row] = f"{kind} duplicate of an earlier row{difference}"
    return reasons


def describe_recall(matches: SimilarPairs) -> dict[str, int | float]:
    """The measured recall of MinHash as figures of a step; empty where it was not measured."""
    recall = matches.recall
    if not recall.probes:
        return {}
    return {
        "recall_probes": recall.probes,
        "recall_pairs": recall.pairs,
        "recall": round(recall.share, 6),
        "recall_low": round(recall.low, 6),
    }


def drop_exact_duplicates(rows: Rows) -> Rows:
    """Join rows with the same conversation into the first of them, see `join_repeats`, and add the column ``id``."""
    ids = name_rows(rows.table)
    first_rows: dict[str, int] = {}
    repeats = [(first, row) for row, name in enumerate(ids) if (first := first_rows.setdefault(name, row)) != row]
    pairs = np.array(repeats, dtype=np.int64).reshape(-1, 2)
    reasons: list[str | None] = [None] * len(ids)
    labels = (rows.table["label"].take(pa.array(side)).to_pylist() for side in pairs.T)
    for row, label, other in zip(pairs[:, 1].tolist(), *labels, strict=True):
        reasons[row] = "same conversation again" + ("" if label == other else ", under another label")
    listings = list_conflicts(rows.table)
    table = join_repeats(rows.table, repeats).append_column("id", pa.array(ids, pa.string()))
    rows = record_pairs(rows, table, "exact", pairs, np.ones(len(pairs)), np.ones(len(pairs)), dropped=True)
    return finish_step(rows, "exact duplicates", table, reasons, listings=listings)


def name_rows(table: pa.Table) -> list[str]:
    """The `content_id` of each row; rows that differ only in which answers are learned have different ones."""
    if UNTRAINED.name not in table.column_names:
        return [name for messages in cut_messages(table) for name in content_ids(messages)]
    places = iter(table[UNTRAINED.name].to_pylist())
    return [
        name for messages in cut_messages(table) for name in content_ids(messages, list(islice(places, len(messages))))
    ]


def join_prompts_and_answers(
    table: pa.Table, prompt_roles: Sequence[str] = ("system", "user", "tool")
) -> tuple[list[str], list[str]]:
    """Per row the prompt, which is the turns of these roles joined, and the answer, the turns of the assistant."""
    prompts: list[str] = []
    answers: list[str] = []
    for messages in cut_messages(table):
        prompts += join_turns(messages, prompt_roles)
        answers += join_turns(messages, ["assistant"])
    return prompts, answers


def find_near_duplicates(
    table: pa.Table,
    settings: Duplicates,
    leaks: bool,
    probes: int = 0,
    spread: Spread = IN_TURN,
    crowds: bool = True,
) -> SimilarPairs:
    """Near duplicates: rows that reach the thresholds and differ in nothing that counts, see `Differences`.

    System turns are compared apart, since a long one that rows share would make all their prompts similar.

    Args:
        table: The rows. Signatures that an earlier search left in it are used again; their recall was measured there.
        settings: Thresholds, and what counts.
        leaks: Look for rows that may not be in different splits instead of rows that are the same; reworded rows and
            rows with another label are such leaks too.
        probes: Rows on which the recall is measured.
        spread: Where the signatures are computed.
        crowds: Whether reworded rows of one template, which many rows have, are different.
    """
    thresholds = settings.leak if leaks else settings.same
    prompts, answers = join_prompts_and_answers(table, ("user", "tool"))
    contexts = [text for messages in cut_messages(table) for text in join_turns(messages, ["system"])]
    name, signatures = f"{SIGNATURES}{settings.shingle}", None
    if name in table.column_names and table.num_rows:
        pieces = [piece.flatten().to_numpy() for piece in table[name].chunks]
        signatures = (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)).reshape(-1, PERMUTATIONS)
    differences = Differences(
        contexts=Texts(contexts, settings.shingle, settings.numbers),
        prompts=Texts(prompts, settings.shingle, settings.numbers),
        answers=Texts(answers, settings.shingle, settings.numbers) if settings.answers else None,
        labels=table["label"].to_pylist() if settings.answers and not leaks else None,
        words=settings.words,
        rewording=thresholds.prompts if leaks else None,
        crowds=crowds,
    )
    return find_similar_pairs(
        prompts,
        answers,
        thresholds.rows,
        thresholds.prompts,
        settings.shingle,
        settings.numbers,
        0 if signatures is not None else probes,
        spread,
        signatures,
        differences,
    )


def drop_signatures(table: pa.Table) -> pa.Table:
    """The table without its MinHash signatures."""
    return table.select([name for name in table.column_names if not name.startswith(SIGNATURES)])


def find_semantic_duplicates(table: pa.Table, settings: Duplicates, leaks: bool) -> SimilarPairs:
    """Pairs of rows with the same meaning, see `compare_embeddings`; rows with another label are such leaks too.

    System turns are left out: a long one that rows share would make all their prompts similar.
    """
    assert settings.semantic is not None
    thresholds = settings.semantic.leak if leaks else settings.semantic.same
    prompts, answers = join_prompts_and_answers(table, ("user", "tool"))
    labels = table["label"].to_pylist() if settings.answers and not leaks else None
    return compare_embeddings(prompts, answers, settings.semantic, thresholds, settings.numbers, labels)


def find_kept_originals(count: int, pairs: np.ndarray[Any, Any]) -> list[int]:
    """Per row the index of the earlier, kept row it duplicates, or its own when it is kept itself."""
    earlier: dict[int, list[int]] = defaultdict(list)
    for first, second in pairs.tolist():
        earlier[second].append(first)
    originals = list(range(count))
    for row in sorted(earlier):
        kept = [other for other in earlier[row] if originals[other] == other]
        if kept:
            originals[row] = min(kept)
    return originals


def show_pairs(table: pa.Table, pairs: np.ndarray[Any, Any]) -> list[tuple[str, str]]:
    """The texts of the first few pairs, the later row of each before the earlier one."""
    shown = pairs[:EXAMPLES]
    if not len(shown):
        return []
    texts = {row: show_conversation(table["messages"][row].as_py(), 160) for row in set(shown.ravel().tolist())}
    return [(texts[second], texts[first]) for first, second in shown.tolist()]
