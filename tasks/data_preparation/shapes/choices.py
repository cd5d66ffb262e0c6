"""Multiple choice: a question, its choices and which of them is right (ARC, MMLU, HellaSwag, BoolQ and the like).

The choices are listed below the question as ``A. ...``, and the answer is the right line; where the choices are
bare letters, the question has listed them itself. The right one may be given by its place (from 0), its letter or
label, or its text.

Example:
    ``{"query": "2 + 2?", "choices": ["3", "4"], "gold": 1}`` becomes ``user: 2 + 2?`` (an empty line, then)
    ``A. 3``, ``B. 4`` and ``assistant: B. 4`` with the other answer ``assistant: A. 3``.
"""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from tasks.data_preparation.shapes.dialogues import SYSTEM
from tasks.data_preparation.shapes.shape import (
    GENERAL,
    TELLING,
    USUAL,
    Columns,
    Conversation,
    Other,
    Path,
    Piece,
    Row,
    RowError,
    Shape,
    Span,
    Talk,
    read_piece,
)

CHOICES = {"choices": TELLING, "options": TELLING, "endings": TELLING, "candidates": GENERAL}
GOLD = {
    "gold": TELLING,
    "answerKey": TELLING,
    "answer_key": TELLING,
    "correct": USUAL,
    "answer": TELLING,
    "answer_idx": TELLING,
    "label": USUAL,
    "target": GENERAL,
}
ASKED = {"question": TELLING, "query": TELLING, "ctx": TELLING, "prompt": USUAL, "goal": USUAL, "input": GENERAL}


def _convert(row: Row, columns: Columns) -> Conversation:
    texts, labels, path = _read_choices(row, columns["choices"])
    column = columns["gold"]
    if column not in row:
        raise RowError(f'no "{column}"')
    right = _find_right(row[column], texts, labels)
    talk = Talk()
    if "system" in columns and columns["system"] in row:
        talk.say("system", read_piece(row, columns["system"]))
    pieces: list[str | Piece] = []
    for role in ("context", "prompt"):
        if role in columns:
            piece = read_piece(row, columns[role])
            pieces += ["\n\n", piece] if pieces else [piece]
    listed = any(len(text.strip()) > 1 for text in texts)
    if listed:
        for number, text in enumerate(texts):
            pieces += ["\n\n" if not number else "\n", f"{_letter(number)}. ", Piece(text, (*path, number))]
    talk.say("user", *pieces)
    answers = [f"{_letter(number)}. {text}" if listed else text for number, text in enumerate(texts)]
    talk.say("assistant", answers[right])
    others = [place for place in range(len(texts)) if place != right]
    if not listed:
        for talk_number, place in enumerate([right, *others]):
            turn = 0 if talk_number else len(talk.turns) - 1
            talk.places.append(((*path, place), (Span(talk_number, turn, 0, len(texts[place])),)))
    wrong = [Other([{"role": "assistant", "content": answers[place]}], 0.0) for place in others]
    return Conversation(talk.turns, talk.places, len(talk.turns) - 1, 1.0, True, wrong)


def _letter(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


def _read_choices(row: Row, column: str) -> tuple[list[str], list[str], Path]:
    value = row.get(column)
    path: Path = (column,)
    labels: list[str] = []
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels = [str(label) for label in value.get("label") or []]
        value, path = value["text"], (column, "text")
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
        raise RowError(f'"{column}" is no list of choices')
    return value, labels, path


def _find_right(given: Any, texts: list[str], labels: list[str]) -> int:
    if isinstance(given, str) and given.strip():
        name = given.strip()
        letters = [_letter(number) for number in range(len(texts))]
        for names in (labels, [text.strip() for text in texts], letters, [letter.lower() for letter in letters]):
            if name in names:
                return names.index(name)
        given = int(name) if name.isdecimal() else None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < len(texts):
        raise RowError("no choice is marked as right")
    return given


MULTIPLE_CHOICE = Shape(
    "multiple_choice",
    "question or query, choices: [...], gold or answer",
    {"prompt": ASKED, "choices": CHOICES, "gold": GOLD},
    _convert,
    {"context": {"context": TELLING, "passage": TELLING, "article": USUAL}, "system": SYSTEM},
    compares=True,
)
