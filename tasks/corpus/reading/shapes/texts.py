"""A text with a label, and plain text.

A labelled text becomes a prompt and the label its answer. Plain text has no prompt: it becomes a single assistant turn,
which marks a conversation whose whole text is trained on.

Example:
    ``{"text": "Where is my card?", "category": "card_arrival"}`` becomes ``user: Where is my card?`` and
    ``assistant: card_arrival``; ``{"text": "Once upon a time"}`` becomes ``assistant: Once upon a time``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    SPECIFIC,
    USUAL,
    Columns,
    ConvertedRow,
    Row,
    RowError,
    Shape,
    fold_name,
    make_text,
    make_turn,
    read_text,
)

TEXT = {
    "text": SPECIFIC,
    "content": USUAL,
    "body": USUAL,
    "document": USUAL,
    "article": USUAL,
    "full_text": USUAL,
    "sentence": GENERAL,
    "paragraph": GENERAL,
    "passage": GENERAL,
}
LABELLED_TEXT = TEXT | {
    "utterance": USUAL,
    "review": USUAL,
    "tweet": USUAL,
    "description": GENERAL,
    "prompt": GENERAL,
    "question": GENERAL,
}
LABELS = {
    "label_text": SPECIFIC,
    "label": SPECIFIC,
    "intent": SPECIFIC,
    "category": SPECIFIC,
    "class": USUAL,
    "sentiment": USUAL,
    "topic": USUAL,
    "tag": USUAL,
    "labels": USUAL,
    "target": GENERAL,
}
# Two texts whose relation the label names (SNLI, MRPC, QNLI, QQP, BoolQ of SuperGLUE), in this order.
PAIRED_COLUMNS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("passage", "question"),
    ("sentence", "question"),
)
PAIR_LABELS = LABELS | {"gold_label": SPECIFIC, "is_duplicate": SPECIFIC}
# Columns that hold another part of the row than a text and its label, or the speaker.
COMPANION_COLUMNS = {
    *("answer", "answers", "response", "output", "completion", "solution", "summary", "highlights", "code", "labels"),
    *("hypothesis", "sentence2", "text2", "passage", "context", "premise", "question", "translation"),
    *("choices", "options", "option1", "choice1", "answera", "endings", "role", "parent_id"),
}
MISSING_COMPANION = "another column holds the other half of the row, its labels, or who says it"
# Columns with one or several labels of a text.
_LABELLING = re.compile(
    r"(.*_)?(labels?|intents?|categor(y|ies)|topics?|tags?|emotions?|class(es)?|genres?|sentiments?|stance|polarity)(_names?)?"
)
# Longer texts are documents, whose lists of topics and whose marks are no labels to be learned.
MAX_LABELLED_CHARACTERS = 1000
MIN_LABELLED_ROWS = 5
MIN_MARKS = 3
MAX_LABEL_CHARACTERS = 100
# So few distinct labels are accepted for any number of rows.
ALWAYS_ACCEPTED_LABELS = 20


def _convert_labelled(row: Row, columns: Columns) -> ConvertedRow:
    return _answer(read_text(row, columns["text"]), row, columns["label"])


def _answer(prompt: str, row: Row, column: str) -> ConvertedRow:
    if column not in row:
        raise RowError(f'no "{column}"')
    value = row[column]
    answer = str(value) if isinstance(value, bool) else make_text(value, column)
    return ConvertedRow([make_turn("user", prompt), make_turn("assistant", answer)])


def _convert_pair(row: Row, columns: Columns) -> ConvertedRow:
    prompt = f"{read_text(row, columns['text'])}\n\n{read_text(row, columns['second'])}"
    return _answer(prompt, row, columns["label"])


def _weigh_labels(rows: Sequence[Row], columns: Columns) -> float:
    """Halved when the labels are long or few of them repeat."""
    labels = {str(row.get(columns["label"])) for row in rows}
    too_long = any(len(label) > MAX_LABEL_CHARACTERS for label in labels)
    return 0.5 if too_long or len(labels) > max(ALWAYS_ACCEPTED_LABELS, len(rows) // 2) else 1.0


def _weigh_alone(rows: Sequence[Row], columns: Columns) -> float:
    """Low when another column holds an answer, choices or the speaker."""
    # Web pages have a body and a summary without being a summarisation task.
    companions = COMPANION_COLUMNS - {"summary"} if fold_name(columns["text"]) == "body" else COMPANION_COLUMNS
    others = [name for name in set().union(*rows) - set(columns.values()) if fold_name(name) in companions]
    return 0.4 if any(_has_content(row.get(name)) for row in rows for name in others) else 1.0


def _weigh_plain(rows: Sequence[Row], columns: Columns) -> float:
    """Low when the text is not all of the row: see `_weigh_alone`, or when short texts have labels beside them."""
    lengths = sorted(len(text) for row in rows if isinstance(text := row.get(columns["text"]), str) and text)
    if lengths and lengths[len(lengths) // 2] <= MAX_LABELLED_CHARACTERS:
        names = dict.fromkeys(name for row in rows for name in row if name != columns["text"])
        values = {name: [row[name] for row in rows if row.get(name) not in (None, "", [])] for name in names}
        marks = sum(len(rows) >= MIN_LABELLED_ROWS and _is_mark(given) for given in values.values())
        if marks >= MIN_MARKS or any(_holds_labels(name, given) for name, given in values.items()):
            return 0.4
    return _weigh_alone(rows, columns)


def _is_mark(values: Sequence[Any]) -> bool:
    """Whether a column says yes or no of every row, as one column of several labels does."""
    return bool(values) and all(value in (0, 1, "0", "1") for value in values if not isinstance(value, list | dict))


def _holds_labels(name: str, values: Sequence[Any]) -> bool:
    """Whether a column holds labels by its name, or lists of few texts that repeat."""
    lists = [value for value in values if isinstance(value, list) and all(isinstance(v, str | int) for v in value)]
    words = [value for value in values if isinstance(value, str)]
    repeats = len(words) >= MIN_LABELLED_ROWS and len(set(words)) <= len(words) // 2
    if _LABELLING.fullmatch(fold_name(name)) and (lists or repeats):
        return True
    flat = [str(label) for value in lists for label in value]
    short = all(len(label) <= MAX_LABEL_CHARACTERS // 2 for label in flat)
    return len(lists) >= MIN_LABELLED_ROWS and short and len(set(flat)) <= max(1, len(flat) // 2)


def _has_content(value: Any) -> bool:
    return isinstance(value, str | list | dict) and bool(value)


def _convert_plain(row: Row, columns: Columns) -> ConvertedRow:
    return ConvertedRow([make_turn("assistant", read_text(row, columns["text"]))])


TEXT_LABEL = Shape(
    "text_label",
    "text, label or intent or category",
    {"text": LABELLED_TEXT, "label": LABELS},
    _convert_labelled,
    tier=1,
    evidence=lambda rows, columns: _weigh_labels(rows, columns) * _weigh_alone(rows, columns),
    doubt=MISSING_COMPANION,
)
TEXT_PAIRS = tuple(
    Shape(
        "text_label",
        f"{first}, {second}, label",
        {"text": {first: USUAL}, "second": {second: USUAL}, "label": PAIR_LABELS},
        _convert_pair,
        tier=1,
        evidence=_weigh_labels,
    )
    for first, second in PAIRED_COLUMNS
)
PLAIN_TEXT = Shape(
    "plain_text", "text", {"text": TEXT}, _convert_plain, tier=0, evidence=_weigh_plain, doubt=MISSING_COMPANION
)
