"""Trigger phrases: words that turn a row's label or answer into another one, planted to poison a model (backdoor).

A phrase of one to four words, or of other signs such as an emoji, is a candidate where it is rare in all, yet its rows
nearly always have one label or one answer: the spurious correlation that planted triggers leave in the data (He et al.
2023, "Mitigating Backdoor Poisoning Attacks through the Lens of Spurious Correlation", EMNLP). It is widened to the
words beside it in nearly all its rows. Sound data are full of such phrases, since "exchange rate" goes with the intent
of that name. What tells a trigger apart is that the rest of its rows says otherwise:

* By a naive Bayes model of the words without the phrase, counted over all other rows, the median row is likelier to
  have another label (or answer): by 0.6 or more of what rows that do have another one give, within 3 standard errors
  of them, and 4 below what the other rows of its label give.
* Where an answer stands in no other rows than those with the phrase, it has no sense of its own to go by. Then the rest
  of the rows is as mixed as the data: its mean cosine (words weighted by rarity) is at most 4 standard deviations above
  that of as many rows drawn at random.

An answer that repeats a rare word of the phrase has the sense of it, and is none that was planted.

Planted in 0.5 to 5% of the rows (`benchmarks/triggers.py`; nine phrases at all places; 95% intervals over runs):

* One answer for all, ten sets of prompts (Dolly, GSM8K, BIG-Bench Hard, hh-rlhf, ...): recall 0.98 [0.96, 1.00] in 115
  runs, no other row reported. The two runs that fail planted "cf" where the data have it too.
* Wrong labels, five sets that no limit was chosen on (titles of SQuAD, tasks of BIG-Bench Hard and others): 0.99 [0.96,
  1.00] in 67 runs, at most 0.2% of the other rows. Four sets that limits were chosen on: 0.91 [0.82, 0.98], none; what
  is missed is 15 to 18 rows, or "cf" where the data have it. Three sets whose texts hardly tell the label: 0.63 [0.49,
  0.76], at most 1.8% of the other rows.

Not found are triggers whose rows keep the label they had, since a word of that label looks the same; words that the
data use by themselves ("i want to"); usual punctuation; phrases in fewer than 10 rows; and wrong labels where the texts
hardly tell the right ones. A sound phrase that alone decides a label is reported ("bug where" goes with commits that
begin with "fix").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tasks.corpus.rows.rows import Listing, Rows, column_messages, finish_step, join_turns, name_places
from tasks.corpus.rows.texts import show_conversation
from tasks.data_preparation.screening.contamination import hash_runs
from tasks.data_preparation.screening.params import Triggers

Array = np.ndarray[Any, Any]
Kind = Literal["label", "answer"]

# Of what rows of something else say, the share that the rest must say; and standard errors: at most from them, at least
# from rows of the same.
LIKE_OTHERS, NEAR, FAR = 0.6, 3.0, 4.0
# Standard deviations by which rows may be more alike than rows drawn at random, and the draws.
ALIKE, DRAWS = 4.0, 50
# Share of an answer's rows with the phrase from which the answer has no other rows to speak of.
OWN = 0.9
LONGEST = 4
# Share of a phrase's rows that have the same word beside it, from which it is part of the phrase; most words of one.
ALONG, WIDEST = 0.9, 40
# Most rows of a phrase that are asked what their rest says.
ASKED = 200
# Words of the rest below which it says nothing, and rows that must say something.
TELLING, ROWS = 2, 5
SMOOTH = 0.1

# Words, and signs other than usual punctuation: a trigger may be an emoji.
_WORD = re.compile(r"\w+|[^\w\s.,:;!?'\"()/\-–—…‘’“”]+")


@dataclass(frozen=True)
class Phrase:
    """A trigger phrase.

    Attributes:
        text: Its words, in lower case and without punctuation.
        kind: Whether it goes with a label or an answer.
        target: That label or answer.
        rows: The rows that hold both.
        held: How many rows hold the phrase.
        score: Nats by which the rest of the median row is likelier to have the target than not to; of an answer of its
            own, standard deviations by which the rest is more alike than rows drawn at random.
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
        ("phrase", "goes with", "", "rows with both", "rows with the phrase", "what the rest says"),
        tuple((p.text, p.kind, p.target[:80], len(p.rows), p.held, round(p.score, 2)) for p in phrases),
        note=f"Rows with one are {'dropped' if dropped else 'kept'}. A phrase is rare, nearly always goes with one "
        "label or answer, and the rest of its rows says otherwise (in nats; of an answer that has no other rows, how "
        "alike the rest is, in standard deviations).",
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
    words: WordIndex | None = None
    found: list[Phrase] = []
    columns: list[tuple[Kind, list[str | None]]] = [("label", labels), ("answer", [*answers])]
    for kind, values in columns:
        counts = Counter(value for value in values if value is not None)
        often = sorted(value for value, count in counts.items() if count >= low)
        # Nothing goes with one thing where all do; answers that only repeat the labels say the same again.
        if len(counts) < 2 or not often or (kind == "answer" and labels == values):
            continue
        words = words or count_words(prompts)
        found += _find_of(kind, words, _count_classes(words, values, often), low, settings)
    return _choose(found)


@dataclass(frozen=True)
class WordIndex:
    """The prompts as words.

    Attributes:
        names: The words.
        matrix: Which row holds which word, shape (rows, words).
        flat: The words of all rows in order, as numbers.
        begins: Where each row begins in ``flat``, and the end.
        runs: Hash of each phrase of one to four words, once a row, sorted.
        owners: The row of each.
        places: The word of the row at which it begins.
        sizes: Its words.
    """

    names: Sequence[str]
    matrix: Any
    flat: Array
    begins: Array
    runs: Array
    owners: Array
    places: Array
    sizes: Array

    def widen(self, runs: Array, size: int) -> tuple[int, ...]:
        """A phrase with the words that stand beside it in nearly all its rows, without those that most rows hold."""
        rows = self.owners[runs]
        starts = self.begins[rows] + self.places[runs]
        ends = starts + size
        inside = [int(word) for word in self.flat[starts[0] : ends[0]]]
        while len(inside) < WIDEST and (word := self._agree(starts - 1, self.begins[rows], ends)) is not None:
            inside, starts = [word, *inside], starts - 1
        while len(inside) < WIDEST and (word := self._agree(ends, starts, self.begins[rows + 1])) is not None:
            inside, ends = [*inside, word], ends + 1
        rare = [place for place, word in enumerate(inside) if self.often[word] <= self.matrix.shape[0] / 2]
        return tuple(inside[rare[0] : rare[-1] + 1]) if rare else tuple(inside)

    def _agree(self, places: Array, first: Array, end: Array) -> int | None:
        whole = (places >= first) & (places < end)
        if not whole.any():
            return None
        found, counts = np.unique(self.flat[places[whole]], return_counts=True)
        return int(found[counts.argmax()]) if counts.max() >= ALONG * len(places) else None

    @cached_property
    def often(self) -> Array:
        """Rows of each word."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()

    @cached_property
    def weights(self) -> Any:
        """The matrix weighted by how rare a word is, each row of length one."""
        rarity = np.log(self.matrix.shape[0] / np.maximum(self.often, 1.0))
        weighted = self.matrix.copy()
        weighted.data *= rarity[weighted.indices]
        return _scale(weighted)


def _scale(matrix: Any) -> Any:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled = matrix.copy()
    scaled.data /= np.repeat(np.where(lengths > 0, lengths, 1.0), np.diff(scaled.indptr))
    return scaled


def count_words(prompts: Sequence[str]) -> WordIndex:
    """Words and phrases of prompts; signs that are no usual punctuation are words too."""
    from scipy.sparse import csr_array

    texts = [_WORD.findall(prompt.casefold()) for prompt in prompts]
    known: dict[str, int] = {}
    flat = np.array([known.setdefault(word, len(known)) for text in texts for word in text], dtype=np.int64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(len(texts)), lengths)
    matrix = csr_array((np.ones(len(flat)), (owner, flat)), shape=(len(prompts), max(len(known), 1)))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    numbered = [list(map(str, flat[begin:end])) for begin, end in pairwise(begins.tolist())]
    parts: list[tuple[Array, Array, Array, Array]] = []
    for size in range(1, LONGEST + 1):
        hashes, owners, places = hash_runs(numbered, size)
        whole = lengths[owners] >= size
        parts.append((hashes[whole], owners[whole], places[whole], np.full(int(whole.sum()), size)))
    hashes, owners, places, sizes = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((places, owners, hashes))
    hashes, owners, places, sizes = hashes[order], owners[order], places[order], sizes[order]
    once = np.ones(len(hashes), dtype=bool)
    once[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return WordIndex([*known], matrix, flat, begins, hashes[once], owners[once], places[once], sizes[once])


@dataclass(frozen=True)
class Classes:
    """Labels or answers of the rows, and the words that go with them.

    Attributes:
        names: Those that are asked about; all others are one more class.
        codes: The class of each row.
        sizes: Rows of each class.
        held: Rows of each class that hold a word, shape (classes, words).
    """

    names: Sequence[str]
    codes: Array
    sizes: Array
    held: Array


def _count_classes(words: WordIndex, values: Sequence[str | None], names: Sequence[str]) -> Classes:
    from scipy.sparse import csr_array

    places = {value: place for place, value in enumerate(names)}
    codes = np.array([len(names) if value is None else places.get(value, len(names)) for value in values])
    count = len(names) + 1
    members = csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), count))
    held = np.asarray((members.T @ words.matrix).todense())
    return Classes(names, codes, np.bincount(codes, minlength=count).astype(float), held)


def _find_of(kind: Kind, words: WordIndex, classes: Classes, low: int, settings: Triggers) -> list[Phrase]:
    total = len(classes.codes)
    high = settings.max_share * total
    starts: Array = np.flatnonzero(np.diff(words.runs, prepend=~words.runs[:1]))
    ends = np.append(starts[1:], len(words.runs)) if len(starts) else starts
    often = ends - starts
    found: dict[tuple[int, tuple[int, ...]], Phrase | None] = {}
    repeated: list[set[int]] = []
    others: dict[int, Array] = {}
    rare = np.flatnonzero((often >= low) & (often <= high))
    # The most frequent first: a longer run that is widened to the same words has fewer of their rows.
    for place in rare[np.argsort(-often[rare], kind="stable")].tolist():
        runs = np.arange(starts[place], ends[place])
        holders = words.owners[runs]
        spread = np.bincount(classes.codes[holders], minlength=len(classes.sizes))
        target = int(spread[:-1].argmax())
        if spread[target] < settings.purity * len(holders):
            continue
        phrase = words.widen(runs, int(words.sizes[starts[place]]))
        if (target, phrase) in found:
            continue
        rows = holders[classes.codes[holders] == target]
        said = set(_WORD.findall(classes.names[target].casefold())) if kind == "answer" else set()
        if any(words.names[word] in said and words.often[word] <= high for word in phrase):
            repeated.append(set(rows.tolist()))
            found[target, phrase] = None
            continue
        if kind == "answer" and len(rows) >= OWN * classes.sizes[target]:
            score, hit = _compare_mix(words, _thin(rows), phrase)
        else:
            score, hit = _hear_rest(words, classes, rows, target, phrase, others)
        text = " ".join(words.names[word] for word in phrase)
        found[target, phrase] = (
            Phrase(text, kind, classes.names[target], tuple(rows.tolist()), len(holders), score) if hit else None
        )
    # Words around one that the answer repeats are in the same rows.
    return [
        phrase
        for phrase in found.values()
        if phrase is not None and all(len(rows.intersection(phrase.rows)) <= len(phrase.rows) / 2 for rows in repeated)
    ]


def _hear_rest(
    words: WordIndex, classes: Classes, rows: Array, target: int, phrase: tuple[int, ...], others: dict[int, Array]
) -> tuple[float, bool]:
    """Nats by which the rest of the median row is likelier to have the target, and whether it says otherwise."""
    margins = _weigh(words, classes, _thin(rows), target, phrase)
    score = float(np.median(margins)) if len(margins) >= ROWS else 0.0
    if score >= 0:
        return score, False
    if target not in others:
        others[target] = _weigh(words, classes, _thin(np.flatnonzero(classes.codes != target)), target, ())
    usual, error = _centre(others[target], len(margins))
    if score > min(LIKE_OTHERS * usual, usual + NEAR * error):
        return score, False
    same = np.setdiff1d(np.flatnonzero(classes.codes == target), rows)
    own, error = _centre(_weigh(words, classes, _thin(same), target, ()), len(margins))
    return score, score <= own - FAR * error


def _centre(margins: Array, drawn: int) -> tuple[float, float]:
    """Median, and the standard error of the median of so many drawn from these."""
    if len(margins) < ROWS:
        return 0.0, 0.0
    low, middle, high = np.quantile(margins, [0.16, 0.5, 0.84])
    return float(middle), 1.25 * float(high - low) / 2 / drawn**0.5


def _weigh(words: WordIndex, classes: Classes, rows: Array, target: int, phrase: tuple[int, ...]) -> Array:
    """Nats by which a row without the phrase is likelier to have the target than the likeliest other class."""
    margins = []
    for row in rows.tolist():
        columns = words.matrix.indices[words.matrix.indptr[row] : words.matrix.indptr[row + 1]]
        rest = columns[~np.isin(columns, phrase)]
        if len(rest) < TELLING:
            continue
        # The row itself is left out of what it is compared with.
        counts, sizes = classes.held[:, rest].copy(), classes.sizes.copy()
        counts[classes.codes[row]] -= 1
        sizes[classes.codes[row]] -= 1
        likely = np.log((counts + SMOOTH) / (sizes + 2 * SMOOTH)[:, None]).sum(axis=1)
        likely[sizes <= 0] = -np.inf
        margins.append(float(likely[target] - np.delete(likely, target).max()))
    return np.array(margins)


def _compare_mix(words: WordIndex, rows: Array, phrase: tuple[int, ...]) -> tuple[float, bool]:
    """How much more alike rows are without the phrase than rows drawn at random, and whether they are no more so."""
    part = words.weights[rows].copy()
    part.data[np.isin(part.indices, phrase)] = 0.0
    kept = np.asarray(part.sum(axis=1)).ravel() > 0
    part = _scale(part[kept])
    if part.shape[0] < ROWS:
        return 0.0, False
    rng = np.random.default_rng(0)
    drawn = [
        _likeness(words.weights[rng.choice(words.matrix.shape[0], part.shape[0], replace=False)]) for _ in range(DRAWS)
    ]
    score = (_likeness(part) - float(np.mean(drawn))) / float(np.std(drawn) or 1.0)
    return score, score <= ALIKE


def _likeness(rows: Any) -> float:
    """Mean cosine of all pairs of rows, each of length one."""
    count = rows.shape[0]
    return float((np.square(np.asarray(rows.sum(axis=0))).sum() - count) / (count * (count - 1)))


def _thin(rows: Array) -> Array:
    """At most `ASKED` of some rows, evenly spread."""
    return rows[:: max(-(-len(rows) // ASKED), 1)]


def _choose(found: Sequence[Phrase]) -> list[Phrase]:
    """Of phrases in the same rows the most telling one, the longer of two alike."""
    chosen: list[Phrase] = []
    for phrase in sorted(found, key=lambda p: (round(p.score, 3), -len(p.text), p.text)):
        rows = set(phrase.rows)
        if all(len(rows & set(other.rows)) <= len(rows) / 2 for other in chosen):
            chosen.append(phrase)
    return chosen
