"""Multiple choice: a question, its choices and which of them is right (ARC, MMLU, HellaSwag, BoolQ and the like).

The choices are listed below the question as ``A. ...``, and the answer is the right line; where the choices are
bare letters, the question has listed them itself. The right one may be given by its place (from 0), its letter or
label, or its text. Choices come as a list of texts or of objects, as an object of lists, by letter, or in a column
each, as do those of MMLU's files, MedMCQA, PIQA, COPA, Social IQa, Winogrande and SWAG.

Example:
    ``{"query": "2 + 2?", "choices": ["3", "4"], "gold": 1}`` becomes ``user: 2 + 2?`` (an empty line, then)
    ``A. 3``, ``B. 4`` and ``assistant: B. 4`` with the other answer ``assistant: A. 3``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_uppercase
from typing import Any

from tasks.corpus.reading.shapes.dialogues import SYSTEM
from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    TELLING,
    USUAL,
    Columns,
    ConvertedRow,
    Other,
    Row,
    RowError,
    Shape,
    fold_name,
    make_text,
    make_turn,
    read_text,
)

CHOICES = {"choices": TELLING, "options": TELLING, "endings": TELLING, "candidates": GENERAL}
GOLD = {
    "gold": TELLING,
    "answerKey": TELLING,
    "answer_key": TELLING,
    "correct": USUAL,
    "answer": TELLING,
    "answer_idx": TELLING,
    "answer_index": USUAL,
    "correct_option": USUAL,
    "cop": USUAL,
    "label": USUAL,
    "target": GENERAL,
}
ASKED = {"question": TELLING, "query": TELLING, "ctx": TELLING, "prompt": USUAL, "goal": USUAL, "input": GENERAL}
CONTEXT = {"context": TELLING, "passage": TELLING, "article": USUAL, "premise": TELLING}
# Columns with a choice each: those that there must be, those that there may be, and what number the first has.
COLUMNS = (
    (("A", "B"), ("C", "D", "E", "F"), 0),
    (("opa", "opb"), ("opc", "opd", "ope"), 0),
    (("option_a", "option_b"), ("option_c", "option_d", "option_e"), 0),
    (("ending0", "ending1"), ("ending2", "ending3"), 0),
    (("choice1", "choice2"), ("choice3", "choice4", "choice5"), 0),
    (("sol1", "sol2"), (), 0),
    (("option1", "option2"), ("option3", "option4", "option5"), 1),
    (("answerA", "answerB"), ("answerC", "answerD"), 1),
)
# Columns that together hold the choices of a row.
LISTED = ({"choices"}, {"options"}, {"endings"}, *({name.lower() for name in needed} for needed, *_ in COLUMNS))
COLUMN_ASKED = {**ASKED, "sentence": USUAL, "startphrase": USUAL}


def _convert(row: Row, columns: Columns) -> ConvertedRow:
    choices, labels = _read_choices(row.get(columns["choices"]), columns["choices"])
    asked = [read_text(row, columns[role]) for role in ("context", "prompt") if role in columns]
    return _ask(row, columns, asked, choices, labels)


def _convert_stem(row: Row, columns: Columns) -> ConvertedRow:
    column = columns["prompt"]
    question = row.get(column)
    if not isinstance(question, dict):
        raise RowError(f'"{column}" is no object with stem and choices')
    choices, labels = _read_choices(question.get("choices"), "choices")
    return _ask(row, columns, [make_text(question.get("stem"), column)], choices, labels)


def weigh_without(rows: Sequence[Row], columns: Columns) -> float:
    """Hardly sure of an answer beside which the choices are left out."""
    others = {name: fold_name(name) for name in set().union(*rows) - set(columns.values())}
    listing = [name for name, folded in others.items() if any(folded in names for names in LISTED)]
    left = ({others[name] for name in listing if row.get(name)} for row in rows)
    return 0.4 if any(names <= out for out in left for names in LISTED) else 1.0


def _ask(
    row: Row, columns: Columns, asked: Sequence[str], choices: Sequence[str], labels: Sequence[str]
) -> ConvertedRow:
    column = columns["gold"]
    if column not in row:
        raise RowError(f'no "{column}"')
    right = _find_right(row[column], choices, labels)
    turns = []
    if "system" in columns and columns["system"] in row:
        turns.append(make_turn("system", read_text(row, columns["system"])))
    listed = not all(len(text.strip()) == 1 and text.strip().isalpha() for text in choices)
    answers = [f"{_letter(number)}. {text}" if listed else text for number, text in enumerate(choices)]
    prompt = "\n\n".join([*asked, "\n".join(answers)] if listed else asked)
    turns += [make_turn("user", prompt), make_turn("assistant", answers[right])]
    wrong = [Other([make_turn("assistant", text)], 0.0) for place, text in enumerate(answers) if place != right]
    return ConvertedRow(turns, len(turns) - 1, 1.0, True, wrong)


def _letter(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


def _read_choices(value: Any, name: str) -> tuple[list[str], list[str]]:
    """The choices and their labels, which may be none; ``name`` is where they stand, for the error."""
    labels: list[str] = []
    texts: list[Any] = []
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels = [str(label) for label in value.get("label") or []]
        texts = value["text"]
    elif isinstance(value, dict):
        # A column of objects gives every row the letters of all.
        labels = [letter for letter, text in value.items() if text is not None]
        texts = [value[letter] for letter in labels]
    elif isinstance(value, list) and value and all(isinstance(choice, dict) for choice in value):
        labels = [str(choice.get("label")) for choice in value]
        texts = [choice.get("text") for choice in value]
    elif isinstance(value, list):
        texts = value
    if len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        raise RowError(f'"{name}" is no list of choices')
    return texts, labels


def _find_right(given: Any, texts: Sequence[str], labels: Sequence[str]) -> int:
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


def _weigh_numbers(first: int) -> Callable[[Sequence[Row], Columns], float]:
    """Hardly sure when the numbers of the right ones say that the first choice has another number."""

    def weigh(rows: Sequence[Row], columns: Columns) -> float:
        given = {(_read_number(row, columns), len(texts)) for row in rows if (texts := _list_texts(row, columns))}
        none = any(number == 0 for number, _ in given)
        last = any(number == count for number, count in given)
        return 0.4 if (none if first else last and not none) else 1.0

    return weigh


def _read_number(row: Row, columns: Columns) -> int | None:
    """The number that marks the right choice; None where its text, its letter or a label does."""
    value = row.get(columns["gold"])
    if isinstance(value, str) and value.strip().isdecimal() and value not in _list_texts(row, columns):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list_texts(row: Row, columns: Columns) -> list[Any]:
    """The choices that have no labels of their own."""
    if "choices" in columns:
        listed = row.get(columns["choices"])
        return listed if isinstance(listed, list) and not any(isinstance(choice, dict) for choice in listed) else []
    return [row[name] for role, name in columns.items() if role.startswith(COLUMN) and row.get(name)]


def _in_columns(needed: Sequence[str], more: Sequence[str], first: int) -> Shape:
    def convert(row: Row, columns: Columns) -> ConvertedRow:
        names = [column for role, column in columns.items() if role.startswith(COLUMN)]
        choices = [read_text(row, name) for name in names if row.get(name) is not None]
        while choices and not choices[-1].strip():
            choices.pop()
        if len(choices) < 2:
            raise RowError("fewer than two choices")
        number = _read_number(row, columns)
        given = row if number is None else {**row, columns["gold"]: number - first}
        asked = [read_text(row, columns[role]) for role in ("context", "prompt") if role in columns]
        return _ask(given, columns, asked, choices, ())

    return Shape(
        "multiple_choice",
        f"question, {needed[0]}, {needed[1]}, ..., answer",
        {"prompt": COLUMN_ASKED, **{f"{COLUMN}{name}": {name: TELLING} for name in needed}, "gold": GOLD},
        convert,
        {**{f"{COLUMN}{name}": {name: TELLING} for name in more}, "context": CONTEXT},
        evidence=_weigh_numbers(first),
        doubt=f"the numbers of the right choices do not count from {first}",
        compares=True,
    )


COLUMN = "choice "
IN_COLUMNS = tuple(_in_columns(*columns) for columns in COLUMNS)
STEM = Shape(
    "multiple_choice",
    "question: {stem, choices}, answerKey",
    {"prompt": {"question": TELLING}, "gold": {"answerKey": TELLING}},
    _convert_stem,
    compares=True,
)
MULTIPLE_CHOICE = Shape(
    "multiple_choice",
    "question or query, choices: [...], gold or answer",
    {"prompt": ASKED, "choices": CHOICES, "gold": GOLD},
    _convert,
    {"context": CONTEXT, "system": SYSTEM},
    evidence=_weigh_numbers(0),
    doubt="the numbers of the right choices do not count from 0",
    compares=True,
)
