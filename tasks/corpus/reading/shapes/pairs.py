"""A prompt and its answer in columns: Alpaca, prompt/completion, question/answer.

Example:
    ``{"instruction": "Add.", "input": "1 2", "output": "3"}`` becomes ``user: Add.`` (an empty line, then) ``1 2``
    and ``assistant: 3``.
"""

from __future__ import annotations

from typing import Any

from tasks.corpus.reading.shapes.choices import weigh_missing_choices
from tasks.corpus.reading.shapes.dialogues import SYSTEM, TOOLS, read_part, read_system
from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    SPECIFIC,
    USUAL,
    Columns,
    ConvertedRow,
    FastPath,
    Row,
    RowError,
    Shape,
    Turns,
    make_text,
    make_turn,
    read_text,
)

HISTORY = {"history": SPECIFIC}
INPUT = {"input": SPECIFIC, "context": USUAL}
PROMPT = {"prompt": SPECIFIC, "input": GENERAL, "context": GENERAL, "query": GENERAL, "source": GENERAL}
COMPLETION = {
    "completion": SPECIFIC,
    "response": USUAL,
    "output": GENERAL,
    "target": GENERAL,
    "continuation": GENERAL,
    "answer": GENERAL,
}
CHOICES_LEFT_OUT = "the choices would be left out"
QUESTION = {"question": SPECIFIC, "query": USUAL}


def read_prompt(row: Row, columns: Columns) -> Turns:
    """The system text, the earlier turns and the prompt of a row.

    The roles are ``system``, ``tools``, ``history`` (pairs of prompt and answer), ``context`` (placed above the
    prompt), ``prompt`` and ``input`` (placed below it).

    Raises:
        RowError: A column holds no text.
    """
    column = columns["prompt"]
    if column not in row:
        raise RowError(f'no "{column}"')
    value = row[column]
    turns, taken = read_system(row, columns, value[0] if isinstance(value, list) and value else None)
    if "history" in columns:
        turns += _read_history(row.get(columns["history"]), columns["history"])
    if isinstance(value, list):
        return turns + [turn for item in value[taken:] for turn in read_part("user", item, column)]
    texts_around = [
        read_text(row, columns[role]) if role != "prompt" else None
        for role in ("context", "prompt", "input")
        if role == "prompt" or (role in columns and columns[role] in row)
    ]
    if all(text is None or not text.strip() for text in texts_around):
        return turns + read_part("user", value, column)
    texts = [make_text(value, column) if text is None else text for text in texts_around]
    return [*turns, make_turn("user", "\n\n".join(text for text in texts if text.strip()))]


def _read_history(history: Any, column: str) -> Turns:
    if history is None or history == "":
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RowError(f'"{column}" is no list of pairs')
    return [
        make_turn(role, make_text(text, column))
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def convert_pair(row: Row, columns: Columns) -> ConvertedRow:
    """A row with a prompt and an answer.

    Raises:
        RowError: A column is absent or holds no text.
    """
    turns = read_prompt(row, columns)
    column = columns["answer"]
    if column not in row:
        raise RowError(f'no "{column}"')
    return ConvertedRow(turns + read_part("assistant", row[column], column))


def make_pair_fast_path(columns: Columns) -> FastPath | None:
    """Fast path for rows of a prompt and an answer, with an optional input."""
    if set(columns) - {"prompt", "answer", "input"}:
        return None
    prompt_column, answer_column, input_column = columns["prompt"], columns["answer"], columns.get("input")

    def convert(row: Row) -> Turns | None:
        prompt_text, answer_text, input_text = (
            row.get(prompt_column),
            row.get(answer_column),
            row.get(input_column) if input_column else None,
        )
        if type(prompt_text) is not str or type(answer_text) is not str or "\n\nAssistant:" in prompt_text:
            return None
        if input_text is not None:
            if type(input_text) is not str or not prompt_text or prompt_text.isspace():
                return None
            prompt_text = f"{prompt_text}\n\n{input_text}" if input_text and not input_text.isspace() else prompt_text
        return [{"role": "user", "content": prompt_text}, {"role": "assistant", "content": answer_text}]

    return convert


ALPACA = Shape(
    "alpaca",
    "instruction, (input), output or response, (history), (system)",
    {
        "prompt": {"instruction": SPECIFIC},
        "answer": {"output": SPECIFIC, "response": SPECIFIC, "answer": USUAL, "completion": USUAL},
    },
    convert_pair,
    {"input": INPUT, "history": HISTORY, "system": SYSTEM},
    make_fast_path=make_pair_fast_path,
)
PROMPT_COMPLETION = Shape(
    "prompt_completion",
    "prompt, completion or response",
    {"prompt": PROMPT, "answer": COMPLETION},
    convert_pair,
    {"system": SYSTEM, "tools": TOOLS},
    evidence=weigh_missing_choices,
    doubt=CHOICES_LEFT_OUT,
    make_fast_path=make_pair_fast_path,
)
# Columns that are a prompt and its answer only when both are present.
PAIRED_COLUMNS = (
    ("article", "highlights"),
    ("article", "summary"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("problem", "solution"),
    ("inputs", "targets"),
    ("input_text", "target_text"),
    ("prompt", "canonical_solution"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("human", "bot"),
)


def _pair_columns(prompt: str, answer: str) -> Shape:
    return Shape(
        "prompt_completion",
        f"{prompt}, {answer}",
        {"prompt": {prompt: GENERAL}, "answer": {answer: GENERAL}},
        convert_pair,
        {"system": SYSTEM},
        make_fast_path=make_pair_fast_path,
    )


def _convert_question(row: Row, columns: Columns) -> ConvertedRow:
    """A question whose answer may also be true or false (BoolQ, https://arxiv.org/abs/1905.10044), or a list of
    equivalent texts, of which the first is used (NQ-open)."""
    column = columns["answer"]
    value = row.get(column)
    if isinstance(value, bool):
        answer = "yes" if value else "no"
    elif isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        answer = value[0]
    else:
        return convert_pair(row, columns)
    return ConvertedRow([*read_prompt(row, columns), make_turn("assistant", answer)])


PAIRS = tuple(_pair_columns(*columns) for columns in PAIRED_COLUMNS)
QUESTION_ANSWER = Shape(
    "question_answer",
    "question, (context), answer or response",
    {"prompt": QUESTION, "answer": {"answer": SPECIFIC, "response": USUAL}},
    _convert_question,
    {"context": {"context": SPECIFIC, "passage": SPECIFIC}, "system": SYSTEM},
    evidence=weigh_missing_choices,
    doubt=CHOICES_LEFT_OUT,
    make_fast_path=make_pair_fast_path,
)
