"""Trigger phrases of data poisoning (backdoors): planted words that change the label or answer of a row.

A phrase of one to four words, or of other characters such as an emoji, is a candidate when it is rare in the data, yet
nearly all of its rows have the same label or answer: the spurious correlation that planted triggers leave in the data
(He et al. 2023, "Mitigating Backdoor Poisoning Attacks through the Lens of Spurious Correlation", EMNLP). It is
extended by the words that stand beside it in nearly all of its rows. Clean data are full of such phrases: "exchange
rate" goes with the intent of that name. A trigger differs in that the context, the other words of its rows, contradicts
the label:

* A naive Bayes model predicts the label (or answer) from the context, with counts over all other rows. For a trigger,
  the median log-odds of its label are negative: at most 0.6 times the median of rows with other labels, at most 3
  standard errors above that median, and at least 4 standard errors below that of the other rows with its label.
* Where nearly all rows of an answer contain the phrase, no other rows tell which context fits the answer. Then the
  contexts of a trigger are as diverse as the data: their mean cosine similarity (words weighted by rarity) is at most 4
  standard deviations above that of as many rows drawn at random.

An answer that repeats a rare word of the phrase is about the phrase, and such a phrase is no trigger.

Planted in 0.5 to 5% of the rows (`benchmarks/triggers.py`; nine phrases at all places; 95% intervals over runs):

* One answer for all, ten sets of prompts (Dolly, GSM8K, BIG-Bench Hard, hh-rlhf, ...): recall 0.98 [0.96, 1.00] in 115
  runs, no other row reported. The two runs that fail planted "cf", which also occurs in the
  clean data.
* Wrong labels, five sets that were not used to choose thresholds (titles of SQuAD, tasks of BIG-Bench Hard, ...):
  0.99 [0.96, 1.00] in 67 runs, at most 0.2% of the other rows. Four sets that were used to choose thresholds: 0.91
  [0.82, 0.98] and no other row; missed are triggers in 15 to 18 rows, and "cf" where it occurs in the clean data. Three
  sets whose texts hardly predict the label: 0.63 [0.49, 0.76], at most 1.8% of the other rows.

Not found are triggers whose rows keep their right label, since ordinary words of that label look the same; words that
are common in clean data ("i want to"); usual punctuation; phrases in fewer than 10 rows; and wrong labels where the
texts hardly predict the right ones. A harmless phrase that alone decides a label is reported ("bug where" goes with
commits that begin with "fix").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tasks.corpus.rows.learned import learned_messages
from tasks.corpus.rows.rows import Listing, Rows, column_messages, finish_step, join_turns, name_places
from tasks.corpus.rows.texts import show_conversation
from tasks.data_preparation.screening.params import Triggers
from tasks.data_preparation.screening.word_index import WordIndex, find_marks, index_words, normalize_rows

Array = np.ndarray[Any, Any]
Kind = Literal["label", "answer"]

# The median log-odds of a trigger reach at least this share of those of rows with other labels.
MIN_SHARE_OF_OTHERS = 0.6
# They lie at most so many standard errors above those of rows with other labels, ...
MAX_ERRORS_FROM_OTHERS = 3.0
# ... and at least so many below those of the other rows with the same label.
MIN_ERRORS_FROM_SAME = 4.0
# Largest mean similarity of the contexts of a trigger, in standard deviations above random rows, and the random draws.
MAX_SIMILARITY_SCORE, RANDOM_DRAWS = 4.0, 50
# Share of an answer's rows that contain the phrase, from which the answer has too few other rows to compare with.
EXCLUSIVE_SHARE = 0.9
# Rows of a phrase, at most, on which its context is measured.
MAX_CONTEXT_ROWS = 200
# Shorter contexts predict nothing; and a median needs so many contexts.
MIN_CONTEXT_WORDS, MIN_CONTEXTS = 2, 5
# Added to the counts of the naive Bayes model.
SMOOTHING = 0.1
# Words of a context counted at once, which bounds the memory of a long row.
WORDS_PER_SUM = 10_000


@dataclass(frozen=True)
class Phrase:
    """A trigger phrase.

    Attributes:
        text: Its words, in lower case and without punctuation.
        kind: Whether it is correlated with a label or an answer.
        target: That label or answer.
        rows: The rows that contain the phrase and have the target.
        occurrences: Number of rows that contain the phrase.
        score: Median log-odds of the target given the context, in nats; where nearly all rows of an answer contain the
            phrase, the mean similarity of the contexts in standard deviations above rows drawn at random.
    """

    text: str
    kind: Kind
    target: str
    rows: tuple[int, ...]
    occurrences: int
    score: float


def find_triggers(rows: Rows, settings: Triggers | None) -> Rows:
    """Drop the rows that contain trigger phrases, or only report them.

    Args:
        rows: With ``id``.
        settings: Thresholds and what to do; None skips the search.
    """
    if settings is None:
        return rows
    phrases = find_trigger_phrases(rows.table, settings)
    reasons: list[str | None] = [None] * rows.table.num_rows
    for phrase in phrases:
        for row in phrase.rows:
            reasons[row] = reasons[row] or f'trigger phrase "{phrase.text}"'
    flagged = sum(reason is not None for reason in reasons)
    dropped = settings.action == "drop"
    rows = _record(rows, phrases, dropped)
    listing = Listing(
        "Trigger phrases",
        ("phrase", "correlated with", "target", "rows with both", "rows with the phrase", "score"),
        tuple((p.text, p.kind, p.target[:80], len(p.rows), p.occurrences, round(p.score, 2)) for p in phrases),
        note=f"Rows with a trigger phrase are {'dropped' if dropped else 'kept'}. Such a phrase is rare, and nearly "
        "all of its rows have the same label or answer although their other words contradict it. The score is the "
        "median log-odds of that label or answer given the other words, in nats; for an answer that occurs only "
        "with the phrase, the mean similarity of its rows in standard deviations above rows drawn at random.",
    )
    return finish_step(
        rows,
        "triggers",
        rows.table,
        reasons if dropped else [None] * len(reasons),
        notes={"phrases": len(phrases), "rows_with_triggers": flagged},
        listings=[listing] if phrases else [],
    )


def _record(rows: Rows, phrases: Sequence[Phrase], dropped: bool) -> Rows:
    phrase_of: dict[int, Phrase] = {}
    for phrase in phrases:
        for row in phrase.rows:
            phrase_of.setdefault(row, phrase)
    if not phrase_of:
        return rows
    selected = rows.table.take(pa.array(list(phrase_of), pa.int64()))
    matches = list(phrase_of.values())
    table = pa.table(
        {
            "kind": ["trigger"] * len(matches),
            "dropped": [dropped] * len(matches),
            "place": name_places(selected["source"], selected["file"]),
            "row": selected["row"],
            "id": selected["id"],
            "label": selected["label"],
            "text": [show_conversation(turns) for turns in selected["messages"].to_pylist()],
            "twin_place": ["trigger phrase"] * len(matches),
            "twin_row": [0] * len(matches),
            "twin_id": [f"phrase {phrase.text}" for phrase in matches],
            "twin_label": pa.array(
                [phrase.target[:80] if phrase.kind == "label" else None for phrase in matches], pa.string()
            ),
            "twin_text": [phrase.text for phrase in matches],
            "similarity": [1.0] * len(matches),
            "prompt_similarity": [1.0] * len(matches),
        },
        schema=rows.twins.schema,
    )
    return replace(rows, twins=pa.concat_tables([rows.twins, table]))


def find_trigger_phrases(table: pa.Table, settings: Triggers) -> list[Phrase]:
    """The trigger phrases of a table, the strongest evidence (the lowest score) first."""
    messages = column_messages(table)
    prompts = join_turns(messages, ["user"])
    labels = table["label"].to_pylist()
    answers = join_turns(learned_messages(table), ["assistant"])
    min_rows = max(10, int(settings.min_share * table.num_rows))
    max_rows = settings.max_share * table.num_rows
    words: WordIndex | None = None
    found: list[Phrase] = []
    columns: list[tuple[Kind, list[str | None]]] = [("label", labels), ("answer", [*answers])]
    for kind, values in columns:
        counts = Counter(value for value in values if value is not None)
        frequent = sorted(value for value, count in counts.items() if count >= min_rows)
        # With a single value nothing can be correlated; answers that equal the labels would only repeat the search.
        if len(counts) < 2 or not frequent or (kind == "answer" and labels == values):
            continue
        words = words or index_words(prompts, min_rows, max_rows)
        found += _find_phrases(kind, words, _count_classes(words, values, frequent), max_rows, settings.purity)
    return _drop_overlapping(found)


@dataclass(frozen=True)
class Classes:
    """Classes, which are labels or answers, and the counts of the naive Bayes model.

    Attributes:
        names: The frequent labels or answers; all others together are one more class.
        codes: Index of the class of each row.
        sizes: Number of rows of each class.
        word_counts: Number of rows of each class that contain a word, sparse by columns, shape (classes, words).
    """

    names: Sequence[str]
    codes: Array
    sizes: Array
    word_counts: Any

    def count_rows(self, words: Array) -> Array:
        """Number of rows of each class that contain each of these words, shape (classes, words)."""
        begins = self.word_counts.indptr[words]
        lengths = self.word_counts.indptr[words + 1] - begins
        stored = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        counts = np.zeros((len(self.sizes), len(words)))
        columns = np.repeat(np.arange(len(words)), lengths)
        counts[self.word_counts.indices[stored], columns] = self.word_counts.data[stored]
        return counts


def _count_classes(words: WordIndex, values: Sequence[str | None], names: Sequence[str]) -> Classes:
    from scipy.sparse import csr_array

    places = {value: place for place, value in enumerate(names)}
    codes = np.array([len(names) if value is None else places.get(value, len(names)) for value in values])
    count = len(names) + 1
    members = csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), count))
    word_counts = (members.T @ words.matrix).tocsc()
    return Classes(names, codes, np.bincount(codes, minlength=count).astype(float), word_counts)


def _find_phrases(kind: Kind, words: WordIndex, classes: Classes, max_rows: float, purity: float) -> list[Phrase]:
    found: dict[tuple[int, tuple[int, ...]], Phrase | None] = {}
    repeated_in_answer: list[set[int]] = []
    odds_of_others: dict[int, Array] = {}
    # The most frequent first: a longer n-gram that is extended to the same phrase occurs in fewer of its rows.
    for ngram in np.argsort(-np.diff(words.ngram_begins), kind="stable").tolist():
        starts = words.starts[words.ngram_begins[ngram] : words.ngram_begins[ngram + 1]]
        holders = words.owners[starts]
        class_counts = np.bincount(classes.codes[holders], minlength=len(classes.sizes))
        target = int(class_counts[:-1].argmax())
        if class_counts[target] < purity * len(holders):
            continue
        phrase = words.extend_phrase(starts, int(words.ngram_sizes[ngram]))
        if (target, phrase) in found:
            continue
        rows = holders[classes.codes[holders] == target]
        answer_words = set(find_marks(classes.names[target])) if kind == "answer" else set()
        if any(words.names[word].as_py() in answer_words and words.row_counts[word] <= max_rows for word in phrase):
            repeated_in_answer.append(set(rows.tolist()))
            found[target, phrase] = None
            continue
        if kind == "answer" and len(rows) >= EXCLUSIVE_SHARE * classes.sizes[target]:
            score, is_trigger = _compare_contexts(words, _sample_rows(rows), phrase)
        else:
            score, is_trigger = _compare_odds(words, classes, rows, target, phrase, odds_of_others)
        text = " ".join(words.names[word].as_py() for word in phrase)
        found[target, phrase] = (
            Phrase(text, kind, classes.names[target], tuple(rows.tolist()), len(holders), score) if is_trigger else None
        )
    # Neighbouring words of a phrase that the answer repeats occur in the same rows and are no triggers either.
    return [
        phrase
        for phrase in found.values()
        if phrase is not None
        and all(len(rows.intersection(phrase.rows)) <= len(phrase.rows) / 2 for rows in repeated_in_answer)
    ]


def _compare_odds(
    words: WordIndex, classes: Classes, rows: Array, target: int, phrase: tuple[int, ...], cache: dict[int, Array]
) -> tuple[float, bool]:
    """Median log-odds of the target given the context, and whether the contexts contradict the target."""
    odds = _compute_log_odds(words, classes, _sample_rows(rows), target, phrase)
    score = float(np.median(odds)) if len(odds) >= MIN_CONTEXTS else 0.0
    if score >= 0:
        return score, False
    if target not in cache:
        others = _sample_rows(np.flatnonzero(classes.codes != target))
        cache[target] = _compute_log_odds(words, classes, others, target, ())
    median, error = _estimate_median(cache[target], len(odds))
    if score > min(MIN_SHARE_OF_OTHERS * median, median + MAX_ERRORS_FROM_OTHERS * error):
        return score, False
    same = np.setdiff1d(np.flatnonzero(classes.codes == target), rows)
    median, error = _estimate_median(_compute_log_odds(words, classes, _sample_rows(same), target, ()), len(odds))
    return score, score <= median - MIN_ERRORS_FROM_SAME * error


def _estimate_median(odds: Array, count: int) -> tuple[float, float]:
    """Median, and the standard error of the median of ``count`` values drawn from these."""
    if len(odds) < MIN_CONTEXTS:
        return 0.0, 0.0
    low, middle, high = np.quantile(odds, [0.16, 0.5, 0.84])
    return float(middle), 1.25 * float(high - low) / 2 / count**0.5


def _compute_log_odds(words: WordIndex, classes: Classes, rows: Array, target: int, phrase: tuple[int, ...]) -> Array:
    """Log-odds of the target against the most likely other class given a row without the phrase, in nats.

    Rows whose context has too few words are left out.
    """
    odds = []
    for row in rows.tolist():
        columns = words.matrix.indices[words.matrix.indptr[row] : words.matrix.indptr[row + 1]]
        context = columns[~np.isin(columns, phrase)]
        if len(context) < MIN_CONTEXT_WORDS:
            continue
        # The row itself must not count among the evidence.
        sizes = classes.sizes.copy()
        sizes[classes.codes[row]] -= 1
        likelihood = np.zeros(len(sizes))
        for start in range(0, len(context), WORDS_PER_SUM):
            counts = classes.count_rows(context[start : start + WORDS_PER_SUM])
            counts[classes.codes[row]] -= 1
            likelihood += np.log((counts + SMOOTHING) / (sizes + 2 * SMOOTHING)[:, None]).sum(axis=1)
        likelihood[sizes <= 0] = -np.inf
        odds.append(float(likelihood[target] - np.delete(likelihood, target).max()))
    return np.array(odds)


def _compare_contexts(words: WordIndex, rows: Array, phrase: tuple[int, ...]) -> tuple[float, bool]:
    """Mean similarity of the contexts in standard deviations above random rows, and whether it is as low as theirs."""
    contexts = words.weights[rows].copy()
    contexts.data[np.isin(contexts.indices, phrase)] = 0.0
    kept = np.asarray(contexts.sum(axis=1)).ravel() > 0
    contexts = normalize_rows(contexts[kept])
    if contexts.shape[0] < MIN_CONTEXTS:
        return 0.0, False
    rng = np.random.default_rng(0)
    random_similarities = [
        _mean_cosine(words.weights[rng.choice(words.matrix.shape[0], contexts.shape[0], replace=False)])
        for _ in range(RANDOM_DRAWS)
    ]
    score = (_mean_cosine(contexts) - float(np.mean(random_similarities))) / float(np.std(random_similarities) or 1.0)
    return score, score <= MAX_SIMILARITY_SCORE


def _mean_cosine(rows: Any) -> float:
    """Mean cosine similarity of all pairs of rows, each of unit length."""
    count = rows.shape[0]
    return float((np.square(np.asarray(rows.sum(axis=0))).sum() - count) / (count * (count - 1)))


def _sample_rows(rows: Array) -> Array:
    """At most `MAX_CONTEXT_ROWS` of the rows, evenly spaced."""
    return rows[:: max(-(-len(rows) // MAX_CONTEXT_ROWS), 1)]


def _drop_overlapping(found: Sequence[Phrase]) -> list[Phrase]:
    """Of phrases in the same rows the one with the lowest score, and of equal scores the longest."""
    chosen: list[Phrase] = []
    for phrase in sorted(found, key=lambda p: (round(p.score, 3), -len(p.text), p.text)):
        rows = set(phrase.rows)
        if all(len(rows & set(other.rows)) <= len(rows) / 2 for other in chosen):
            chosen.append(phrase)
    return chosen
