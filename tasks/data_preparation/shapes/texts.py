"""A text with a label, and plain text.

A labelled text becomes a prompt and the label its answer. Plain text has no prompt: it becomes one assistant's turn
and nothing else, which is how a conversation says that all of it is to be learned as it stands.

Example:
    ``{"text": "Where is my card?", "category": "card_arrival"}`` becomes ``user: Where is my card?`` and
    ``assistant: card_arrival``; ``{"text": "Once upon a time"}`` becomes ``assistant: Once upon a time``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.data_preparation.shapes.shape import (
    GENERAL,
    TELLING,
    USUAL,
    Columns,
    Conversation,
    Row,
    RowError,
    Shape,
    Talk,
    make_piece,
    read_piece,
)

TEXT = {
    "text": TELLING,
    "content": USUAL,
    "body": USUAL,
    "document": USUAL,
    "article": USUAL,
    "full_text": USUAL,
    "sentence": GENERAL,
    "paragraph": GENERAL,
    "passage": GENERAL,
}
LABELLED = TEXT | {
    "utterance": USUAL,
    "review": USUAL,
    "tweet": USUAL,
    "description": GENERAL,
    "prompt": GENERAL,
    "question": GENERAL,
}
LABELS = {
    "label": TELLING,
    "intent": TELLING,
    "category": TELLING,
    "class": USUAL,
    "sentiment": USUAL,
    "topic": USUAL,
    "tag": USUAL,
    "target": GENERAL,
}
LONGEST_LABEL = 100
# So few different labels are labels whatever the number of rows.
FEW = 20


def _convert_labelled(row: Row, columns: Columns) -> Conversation:
    talk = Talk()
    talk.say("user", read_piece(row, columns["text"]))
    column = columns["label"]
    if column not in row:
        raise RowError(f'no "{column}"')
    value = row[column]
    talk.say("assistant", str(value) if isinstance(value, bool) else make_piece(value, (column,)))
    return Conversation(talk.turns, talk.places)


def _weigh_labels(rows: Sequence[Row], columns: Columns) -> float:
    """Half as sure when the labels are long or hardly any occurs twice."""
    labels = {str(row.get(columns["label"])) for row in rows}
    long = any(len(label) > LONGEST_LABEL for label in labels)
    return 0.5 if long or len(labels) > max(FEW, len(rows) // 2) else 1.0


def _convert_plain(row: Row, columns: Columns) -> Conversation:
    talk = Talk()
    talk.say("assistant", read_piece(row, columns["text"]))
    return Conversation(talk.turns, talk.places)


TEXT_LABEL = Shape(
    "text_label",
    "text, label or intent or category",
    {"text": LABELLED, "label": LABELS},
    _convert_labelled,
    tier=1,
    evidence=_weigh_labels,
)
PLAIN_TEXT = Shape("plain_text", "text", {"text": TEXT}, _convert_plain, tier=0)
