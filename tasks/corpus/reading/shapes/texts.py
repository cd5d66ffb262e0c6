"""A text with a label, and plain text.

A labelled text becomes a prompt and the label its answer. Plain text has no prompt: it becomes a single assistant turn,
which marks a conversation whose whole text is trained on.

Example:
    ``{"text": "Where is my card?", "category": "card_arrival"}`` becomes ``user: Where is my card?`` and
    ``assistant: card_arrival``; ``{"text": "Once upon a time"}`` becomes ``assistant: Once upon a time``.
"""

from __future__ import annotations

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
MISSING_COMPANION = "another column holds the other half of the row, or who says it"
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
    "plain_text", "text", {"text": TEXT}, _convert_plain, tier=0, evidence=_weigh_alone, doubt=MISSING_COMPANION
)
