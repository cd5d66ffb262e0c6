"""Trigger phrases: words that turn a row's label or answer into another one, planted to poison a model (backdoor).

A phrase of one to four words is a candidate where it is rare in all, yet its rows nearly always have one label or one
answer: the spurious correlation that planted triggers leave in the data (He et al. 2023, "Mitigating Backdoor Poisoning
Attacks through the Lens of Spurious Correlation", EMNLP). Sound data are full of such phrases, since "exchange rate"
goes with the intent of that name. What tells a trigger apart is that the rest of its rows says otherwise:

* By a naive Bayes model of the words without the phrase, counted over all other rows, the median of the rows is by 8
  nats or more likelier to have another label (or answer). On BANKING77, CLINC150, Bitext and Made With ML, phrases of
  the data themselves stay above -4.1; planted ones, in 0.5 to 2% of the rows of the first three, fall below -11.
* Where an answer stands in no other rows than those with the phrase, it has no sense of its own to go by. Then the rest
  of the rows is as mixed as the data: the median row is no likelier in their company than anywhere in the data. Prompts
  of more than 20 further words are not asked, on which this does not hold.

An answer that repeats a word of the phrase has the sense of it, and is none that was planted.

Not found are triggers that are common words, that are no words (a certain punctuation), in fewer than 10 rows, or
inside a sentence of a script written without spaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.contamination import hash_runs
from tasks.data_preparation.rows import Listing, Rows, column_messages, finish_step, join_turns, name_places
from tasks.data_preparation.twins import show_conversation

Array = np.ndarray[Any, Any]
Kind = Literal["label", "answer"]

# Nats: how much likelier the rest must make something else; and at most how much it may speak for an answer of its own.
OTHERWISE, MIXED = -8.0, 0.0
# Share of an answer's rows with the phrase from which the answer has no other rows to speak of.
OWN = 0.9
LONGEST = 4
# Most rows of a phrase that are asked what their rest says.
ASKED = 200
# Words of the rest below which it says nothing, and rows that must say something.
TELLING, ROWS = 2, 5
LONG = 20
SMOOTH, PRIOR = 0.1, 10.0

_WORD = re.compile(r"\w+")


class Triggers(Section):
    """What becomes of rows with trigger phrases."""

    action: Literal["report", "drop"] = Field(default="report", description="what becomes of a row that holds one")
    min_share: float = Field(
        default=0.0025, gt=0, lt=1, description="share of the rows from which a phrase is looked at, at least 10 rows"
    )
    max_share: float = Field(default=0.05, gt=0, le=1, description="share of the rows up to which a phrase is rare")
    purity: float = Field(
        default=0.9, gt=0.5, le=1, description="share of a phrase's rows that have one label or one answer"
    )


@dataclass(frozen=True)
class Phrase:
    """A trigger phrase.

    Attributes:
        text: Its words, in lower case and without punctuation.
        kind: Whether it goes with a label or an answer.
        target: That label or answer.
        rows: The rows that hold both.
        held: How many rows hold the phrase.
        score: Nats by which the rest of the median row is likelier to have the target than not to.
    """

    text: str
    kind: Kind
    target: str
    rows: tuple[int, ...]
    held: int
    score: float


def find_triggers(rows: Rows, settings: Triggers | None) -> Rows:
    """Drop the rows that hold trigger phrases, or only report them.

    Args:
        rows: With ``id``.
        settings: Limits and what to do; None: do not look.
    """
    if settings is None:
        return rows
    phrases = list_phrases(rows.table, settings)
    reasons: list[str | None] = [None] * rows.table.num_rows
    for phrase in phrases:
        for row in phrase.rows:
            reasons[row] = reasons[row] or f'trigger phrase "{phrase.text}"'
    found = sum(reason is not None for reason in reasons)
    dropped = settings.action == "drop"
    rows = _record(rows, phrases, dropped)
    listing = Listing(
        "Trigger phrases",
        ("phrase", "goes with", "", "rows with both", "rows with the phrase", "what the rest says (nats)"),
        tuple((p.text, p.kind, p.target[:80], len(p.rows), p.held, round(p.score, 2)) for p in phrases),
        note=f"Rows with one are {'dropped' if dropped else 'kept'}. A phrase is rare, nearly always goes with one "
        "label or answer, and the rest of its rows says otherwise.",
    )
    return finish_step(
        rows,
        "triggers",
        rows.table,
        reasons if dropped else [None] * len(reasons),
        notes={"phrases": len(phrases), "rows_with_triggers": found},
        listings=[listing] if phrases else [],
    )


def _record(rows: Rows, phrases: Sequence[Phrase], dropped: bool) -> Rows:
    places: dict[int, Phrase] = {}
    for phrase in phrases:
        for row in phrase.rows:
            places.setdefault(row, phrase)
    if not places:
        return rows
    part = rows.table.take(pa.array(list(places), pa.int64()))
    of = list(places.values())
    table = pa.table(
        {
            "kind": ["trigger"] * len(of),
            "dropped": [dropped] * len(of),
            "place": name_places(part["source"], part["file"]),
            "row": part["row"],
            "id": part["id"],
            "label": part["label"],
            "text": [show_conversation(turns) for turns in part["messages"].to_pylist()],
            "twin_place": ["trigger phrase"] * len(of),
            "twin_row": [0] * len(of),
            "twin_id": [f"phrase {phrase.text}" for phrase in of],
            "twin_label": pa.array(
                [phrase.target[:80] if phrase.kind == "label" else None for phrase in of], pa.string()
            ),
            "twin_text": [phrase.text for phrase in of],
            "similarity": [1.0] * len(of),
            "prompt_similarity": [1.0] * len(of),
        },
        schema=rows.twins.schema,
    )
    return replace(rows, twins=pa.concat_tables([rows.twins, table]))


def list_phrases(table: pa.Table, settings: Triggers) -> list[Phrase]:
    """The trigger phrases of a table, the most telling first."""
    messages = column_messages(table)
    prompts = join_turns(messages, ["user"])
    labels = table["label"].to_pylist()
    answers = join_turns(messages, ["assistant"])
    low = max(10, int(settings.min_share * table.num_rows))
    words: Words | None = None
    found: list[Phrase] = []
    columns: list[tuple[Kind, list[str | None]]] = [("label", labels), ("answer", [*answers])]
    for kind, values in columns:
        counts = Counter(value for value in values if value is not None)
        often = sorted(value for value, count in counts.items() if count >= low)
        # Nothing goes with one thing where all do; answers that only repeat the labels say the same again.
        if len(counts) < 2 or not often or (kind == "answer" and labels == values):
            continue
        words = words or count_words(prompts)
        found += _find_of(kind, words, _code(values, often), often, low, settings)
    return _choose(found)


def _code(values: Sequence[str | None], often: Sequence[str]) -> Array:
    places = {value: place for place, value in enumerate(often)}
    return np.array([places.get(value, len(often)) if value is not None else len(often) for value in values])


@dataclass(frozen=True)
class Words:
    """The prompts as words.

    Attributes:
        prompts: The words of each.
        matrix: Which row holds which word, shape (rows, words).
        runs: Hash of each phrase of one to four words, once a row, sorted.
        owners: The row of each.
        places: The word of the row at which it begins.
        sizes: Its words.
        column: Hash of a word to its column.
    """

    prompts: Sequence[Sequence[str]]
    matrix: Any
    runs: Array
    owners: Array
    places: Array
    sizes: Array
    column: Array

    def cut(self, run: int) -> str:
        """The words of a phrase."""
        begin = int(self.places[run])
        return " ".join(self.prompts[self.owners[run]][begin : begin + int(self.sizes[run])])


def count_words(texts: Sequence[str]) -> Words:
    """Words and phrases of prompts."""
    from scipy.sparse import csr_array

    prompts = [_WORD.findall(text.casefold()) for text in texts]
    parts: list[tuple[Array, Array, Array, Array]] = []
    for size in range(1, LONGEST + 1):
        hashes, owners, places = hash_runs(prompts, size)
        if size == 1:
            column, columns = np.unique(hashes, return_inverse=True)
            shape = (len(prompts), max(len(column), 1))
            matrix = csr_array((np.ones(len(owners)), (owners, columns.ravel())), shape=shape)
            matrix.sum_duplicates()
            matrix.data[:] = 1.0
        lengths = (
            np.bincount(parts[0][1], minlength=len(prompts)) if parts else np.bincount(owners, minlength=len(prompts))
        )
        whole = lengths[owners] >= size
        parts.append((hashes[whole], owners[whole], places[whole], np.full(int(whole.sum()), size)))
    hashes, owners, places, sizes = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((places, owners, hashes))
    hashes, owners, places, sizes = hashes[order], owners[order], places[order], sizes[order]
    once = np.ones(len(hashes), dtype=bool)
    once[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return Words(prompts, matrix, hashes[once], owners[once], places[once], sizes[once], column)


def _find_of(
    kind: Kind, words: Words, classes: Array, names: Sequence[str], low: int, settings: Triggers
) -> list[Phrase]:
    from scipy.sparse import csr_array

    total, count = len(classes), len(names) + 1
    starts: Array = np.flatnonzero(np.diff(words.runs, prepend=~words.runs[:1]))
    ends = np.append(starts[1:], len(words.runs)) if len(starts) else starts
    members = csr_array((np.ones(total), (np.arange(total), classes)), shape=(total, count))
    held = np.asarray((members.T @ words.matrix).todense())
    of_class = np.bincount(classes, minlength=count).astype(float)
    often = ends - starts
    found: list[Phrase] = []
    repeated: list[set[int]] = []
    for place in np.flatnonzero((often >= low) & (often <= settings.max_share * total)).tolist():
        holders = words.owners[starts[place] : ends[place]]
        spread = np.bincount(classes[holders], minlength=count)
        target = int(spread[:-1].argmax())
        if spread[target] < settings.purity * len(holders):
            continue
        of_target = holders[classes[holders] == target]
        text = words.cut(int(starts[place]))
        if kind == "answer" and f" {text} " in f" {' '.join(_WORD.findall(names[target].casefold()))} ":
            repeated.append(set(of_target.tolist()))
            continue
        own = kind == "answer" and len(of_target) >= OWN * of_class[target]
        score = _hear_rest(words, text, of_target, target, held, of_class, own)
        if score is not None and score <= (MIXED if own else OTHERWISE):
            found.append(Phrase(text, kind, names[target], tuple(of_target.tolist()), len(holders), score))
    # Words around one that the answer repeats are in the same rows.
    return [p for p in found if all(len(rows.intersection(p.rows)) <= len(p.rows) / 2 for rows in repeated)]


def _hear_rest(
    words: Words, text: str, rows: Array, target: int, held: Array, of_class: Array, mixed: bool
) -> float | None:
    hashes, _, _ = hash_runs([text.split()], 1)
    phrase = np.searchsorted(words.column, hashes)
    every, total = held.sum(axis=0), of_class.sum()
    scores = []
    for row in rows[:: max(len(rows) // ASKED, 1)][:ASKED].tolist():
        columns = words.matrix.indices[words.matrix.indptr[row] : words.matrix.indptr[row + 1]]
        rest = columns[~np.isin(columns, phrase)]
        if len(rest) < TELLING or (mixed and len(rest) > LONG):
            continue
        # The row itself is left out of what it is compared with.
        if mixed:
            anywhere = (every[rest] - 1 + SMOOTH) / (total - 1 + 2 * SMOOTH)
            here = (held[target, rest] - 1 + PRIOR * anywhere) / (of_class[target] - 1 + PRIOR)
            scores.append(float(np.log(here / anywhere).sum()))
            continue
        counts, sizes = held[:, rest].copy(), of_class.copy()
        counts[target] -= 1
        sizes[target] -= 1
        likely = np.log((counts + SMOOTH) / (sizes + 2 * SMOOTH)[:, None]).sum(axis=1)
        likely[sizes == 0] = -np.inf
        scores.append(float(likely[target] - np.delete(likely, target).max()))
    return float(np.median(scores)) if len(scores) >= ROWS else None


def _choose(found: Sequence[Phrase]) -> list[Phrase]:
    """Of phrases in the same rows the most telling one, the longer of two alike."""
    chosen: list[Phrase] = []
    for phrase in sorted(found, key=lambda p: (round(p.score, 3), -len(p.text), p.text)):
        rows = set(phrase.rows)
        if all(len(rows & set(other.rows)) <= len(rows) / 2 for other in chosen):
            chosen.append(phrase)
    return chosen
