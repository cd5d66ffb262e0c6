"""Questions of suites that stand in the training rows: what they show would be memory.

The items of suites are taken out of the rows by data preparation, where it knows their files. This check reads the rows
that the candidate was trained on, whoever wrote them, and knows every question. A question was seen where one training
row has half of the word 8-grams of one of its texts; 8-grams of more than 10 questions, such as an instruction before
each, do not count, and neither do texts of fewer than 8 words (they must be a turn of a row as a whole).

Brown et al., arXiv:2005.14165, 2020, appendix C, for overlaps of n-grams; the thresholds are those of data preparation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tasks.contracts.tables import read_examples
from tasks.corpus.text.words import find_words
from tasks.evaluation.asking.question import Question

WORDS, SHARE, MOST_HOLDERS = 8, 0.5, 10
# Shorter texts are not specific to a question.
LEAST_WORDS = 3

Gram = tuple[str, ...]
# Suite, place of the question, place of the text among the question's.
Holder = tuple[str, int, int]


def find_seen(questions: Mapping[str, Sequence[Question]], train: Path) -> dict[str, dict[str, str]]:
    """Suite to key of each question that was seen, to a reason.

    Args:
        questions: Key of a suite to its questions.
        train: Training split, `Example` rows.
    """
    if not questions:
        return {}
    holders: dict[Gram, set[Holder]] = {}
    sizes: dict[Holder, int] = {}
    for suite, each in questions.items():
        for place, question in enumerate(each):
            for number, text in enumerate(_list_texts(question)):
                grams = _cut(text)
                sizes[suite, place, number] = len(grams)
                for gram in grams:
                    holders.setdefault(gram, set()).add((suite, place, number))
    for gram, found in list(holders.items()):
        if len(gram) == WORDS and len({one[:2] for one in found}) > MOST_HOLDERS:
            for one in found:
                sizes[one] -= 1
            del holders[gram]
    rows: dict[tuple[str, int], int] = {}
    for messages in read_examples(train)["messages"].to_pylist():
        hits: dict[Holder, int] = {}
        for gram in {gram for turn in messages for gram in _cut_turn(turn["content"], holders)}:
            for holder in holders[gram]:
                hits[holder] = hits.get(holder, 0) + 1
        for seen in {holder[:2] for holder, count in hits.items() if count >= SHARE * sizes[holder]}:
            rows[seen] = rows.get(seen, 0) + 1
    reasons: dict[str, dict[str, str]] = {}
    for (suite, place), count in sorted(rows.items()):
        key = questions[suite][place].key
        reasons.setdefault(suite, {})[key] = f"it stands in {count:,} training rows; prepare the data again"
    return reasons


def _list_texts(question: Question) -> Iterator[list[str]]:
    """The words of each text that is specific to the question."""
    prompt = question.prompt
    asked = (prompt,) if isinstance(prompt, str) else tuple(turn["content"] for turn in prompt)
    for text in question.texts or asked:
        if len(words := find_words(text)) >= LEAST_WORDS:
            yield words


def _cut(words: list[str]) -> set[Gram]:
    """The 8-grams of a text; the whole of a shorter one."""
    return {tuple(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))}


def _cut_turn(text: str, known: Mapping[Gram, set[Holder]]) -> set[Gram]:
    return _cut(find_words(text)) & known.keys()
