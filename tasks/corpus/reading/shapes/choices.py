"""Multiple choice: a question, its choices and the correct one (ARC, MMLU, HellaSwag, BoolQ and similar benchmarks).

The choices are listed below the question as ``A. ...``, and the answer is the correct line; choices that are single
letters, or that the question lists already, are not listed again. The correct choice may be given by its index (from
0), its letter or label, or its text. Choices come as a list of texts or of objects, as an object of lists, by letter,
or in a column each, as in the files of MMLU, MedMCQA, PIQA, COPA, Social IQa, Winogrande and SWAG.

Example:
    ``{"query": "2 + 2?", "choices": ["3", "4"], "gold": 1}`` becomes ``user: 2 + 2?`` (an empty line, then)
    ``A. 3``, ``B. 4`` and ``assistant: B. 4`` with the other answer ``assistant: A. 3``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tasks.corpus.reading.shapes.dialogues import SYSTEM
from tasks.corpus.reading.shapes.listed_choices import find_listed, label_choices, name_letter
from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    SPECIFIC,
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

CHOICES = {"choices": SPECIFIC, "options": SPECIFIC, "endings": SPECIFIC, "candidates": GENERAL}
GOLD = {
    "gold": SPECIFIC,
    "answerKey": SPECIFIC,
    "answer_key": SPECIFIC,
    "correct": USUAL,
    "answer": SPECIFIC,
    "answer_idx": SPECIFIC,
    "answer_index": USUAL,
    "correct_option": USUAL,
    "cop": USUAL,
    "label": USUAL,
    "target": GENERAL,
}
PROMPTS = {"question": SPECIFIC, "query": SPECIFIC, "ctx": SPECIFIC, "prompt": USUAL, "goal": USUAL, "input": GENERAL}
CONTEXT = {"context": SPECIFIC, "passage": SPECIFIC, "article": USUAL, "premise": SPECIFIC}
# Columns with one choice each: the required ones, the optional ones, and the number of the first choice.
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
# Sets of columns that together hold the choices of a row.
CHOICE_COLUMN_SETS = (
    {"choices"},
    {"options"},
    {"endings"},
    *({name.lower() for name in needed} for needed, *_ in COLUMNS),
)
COLUMN_PROMPTS = {**PROMPTS, "sentence": USUAL, "startphrase": USUAL}


def _convert(row: Row, columns: Columns) -> ConvertedRow:
    choices, labels = _read_choices(row.get(columns["choices"]), columns["choices"])
    prompt_texts = [read_text(row, columns[role]) for role in ("context", "prompt") if role in columns]
    return _make_question(row, columns, prompt_texts, choices, labels)


def _convert_stem(row: Row, columns: Columns) -> ConvertedRow:
    column = columns["prompt"]
    question = row.get(column)
    if not isinstance(question, dict):
        raise RowError(f'"{column}" is no object with stem and choices')
    choices, labels = _read_choices(question.get("choices"), "choices")
    return _make_question(row, columns, [make_text(question.get("stem"), column)], choices, labels)


def weigh_missing_choices(rows: Sequence[Row], columns: Columns) -> float:
    """Low when the conversation would leave out the choices of the question."""
    folded_names = {name: fold_name(name) for name in set().union(*rows) - set(columns.values())}
    choice_columns = [
        name for name, folded in folded_names.items() if any(folded in names for names in CHOICE_COLUMN_SETS)
    ]
    filled = ({folded_names[name] for name in choice_columns if row.get(name)} for row in rows)
    return 0.4 if any(names <= present for present in filled for names in CHOICE_COLUMN_SETS) else 1.0


def _make_question(
    row: Row, columns: Columns, prompt_texts: Sequence[str], choices: Sequence[str], labels: Sequence[str]
) -> ConvertedRow:
    column = columns["gold"]
    if column not in row:
        raise RowError(f'no "{column}"')
    correct = _find_correct(row[column], choices, labels)
    turns = []
    if "system" in columns and columns["system"] in row:
        turns.append(make_turn("system", read_text(row, columns["system"])))
    listed = list(choices) if all(len(text.strip()) == 1 and text.strip().isalpha() for text in choices) else None
    listed = listed or find_listed("\n".join(prompt_texts), choices)
    list_choices = listed is None
    answers = listed or label_choices(choices)
    prompt = "\n\n".join([*prompt_texts, "\n".join(answers)] if list_choices else prompt_texts)
    turns += [make_turn("user", prompt), make_turn("assistant", answers[correct])]
    others = [Other([make_turn("assistant", text)], 0.0) for place, text in enumerate(answers) if place != correct]
    return ConvertedRow(turns, len(turns) - 1, 1.0, True, others)


def _read_choices(value: Any, name: str) -> tuple[list[str], list[str]]:
    """The choices and their labels, empty if there are none; ``name`` is their column, for the error message."""
    labels: list[str] = []
    texts: list[Any] = []
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels = [str(label) for label in value.get("label") or []]
        texts = value["text"]
    elif isinstance(value, dict):
        # Arrow gives every row the keys of all rows, with null values.
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


def _find_correct(answer: Any, texts: Sequence[str], labels: Sequence[str]) -> int:
    if isinstance(answer, str) and answer.strip():
        name = answer.strip()
        letters = [name_letter(number) for number in range(len(texts))]
        for names in (labels, [text.strip() for text in texts], letters, [letter.lower() for letter in letters]):
            if name in names:
                return names.index(name)
        answer = int(name) if name.isdecimal() else None
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(texts):
        raise RowError("no choice is marked as right")
    return answer


def _weigh_numbers(first: int) -> Callable[[Sequence[Row], Columns], float]:
    """Low when the numbers of the correct choices contradict the number of the first choice."""

    def weigh(rows: Sequence[Row], columns: Columns) -> float:
        numbers = {(_read_number(row, columns), len(texts)) for row in rows if (texts := _list_texts(row, columns))}
        has_zero = any(number == 0 for number, _ in numbers)
        has_count = any(number == count for number, count in numbers)
        return 0.4 if (has_zero if first else has_count and not has_zero) else 1.0

    return weigh


def _read_number(row: Row, columns: Columns) -> int | None:
    """The number that marks the correct choice; None when a text, letter or label marks it."""
    value = row.get(columns["gold"])
    if isinstance(value, str) and value.strip().isdecimal() and value not in _list_texts(row, columns):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list_texts(row: Row, columns: Columns) -> list[Any]:
    """The choices without labels of their own."""
    if "choices" in columns:
        choices = row.get(columns["choices"])
        return choices if isinstance(choices, list) and not any(isinstance(choice, dict) for choice in choices) else []
    return [row[name] for role, name in columns.items() if role.startswith(COLUMN) and row.get(name)]


def _make_column_shape(needed: Sequence[str], optional: Sequence[str], first: int) -> Shape:
    def convert(row: Row, columns: Columns) -> ConvertedRow:
        names = [column for role, column in columns.items() if role.startswith(COLUMN)]
        choices = [read_text(row, name) for name in names if row.get(name) is not None]
        while choices and not choices[-1].strip():
            choices.pop()
        if len(choices) < 2:
            raise RowError("fewer than two choices")
        number = _read_number(row, columns)
        numbered_row = row if number is None else {**row, columns["gold"]: number - first}
        prompt_texts = [read_text(row, columns[role]) for role in ("context", "prompt") if role in columns]
        return _make_question(numbered_row, columns, prompt_texts, choices, ())

    return Shape(
        "multiple_choice",
        f"question, {needed[0]}, {needed[1]}, ..., answer",
        {"prompt": COLUMN_PROMPTS, **{f"{COLUMN}{name}": {name: SPECIFIC} for name in needed}, "gold": GOLD},
        convert,
        {**{f"{COLUMN}{name}": {name: SPECIFIC} for name in optional}, "context": CONTEXT},
        evidence=_weigh_numbers(first),
        doubt=f"the numbers of the right choices do not count from {first}",
        compares=True,
    )


COLUMN = "choice "
IN_COLUMNS = tuple(_make_column_shape(*columns) for columns in COLUMNS)
STEM = Shape(
    "multiple_choice",
    "question: {stem, choices}, answerKey",
    {"prompt": {"question": SPECIFIC}, "gold": {"answerKey": SPECIFIC}},
    _convert_stem,
    compares=True,
)
MULTIPLE_CHOICE = Shape(
    "multiple_choice",
    "question or query, choices: [...], gold or answer",
    {"prompt": PROMPTS, "choices": CHOICES, "gold": GOLD},
    _convert,
    {"context": CONTEXT, "system": SYSTEM},
    evidence=_weigh_numbers(0),
    doubt="the numbers of the right choices do not count from 0",
    compares=True,
)
