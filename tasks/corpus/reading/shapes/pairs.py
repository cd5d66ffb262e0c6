"""A prompt and its answer in columns: Alpaca, prompt/completion, question/answer.

Example:
    ``{"instruction": "Add.", "input": "1 2", "output": "3"}`` becomes ``user: Add.`` (an empty line, then) ``1 2``
    and ``assistant: 3``.
"""

from __future__ import annotations

from typing import Any

from tasks.corpus.reading.shapes.choices import weigh_without
from tasks.corpus.reading.shapes.dialogues import SYSTEM, TOOLS, read_part, read_system
from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    TELLING,
    USUAL,
    Columns,
    ConvertedRow,
    Quick,
    Row,
    RowError,
    Shape,
    Turns,
    make_text,
    make_turn,
    read_text,
)

HISTORY = {"history": TELLING}
INPUT = {"input": TELLING, "context": USUAL}
PROMPT = {"prompt": TELLING, "input": GENERAL, "context": GENERAL, "query": GENERAL, "source": GENERAL}
COMPLETION = {
    "completion": TELLING,
    "response": USUAL,
    "output": GENERAL,
    "target": GENERAL,
    "continuation": GENERAL,
    "answer": GENERAL,
}
CHOICES_LEFT_OUT = "the choices would be left out"
QUESTION = {"question": TELLING, "query": USUAL}


def read_prompt(row: Row, columns: Columns) -> Turns:
    """The system text, the earlier turns and the prompt of a row.

    The roles are ``system``, ``tools``, ``history`` (pairs of prompt and answer), ``context`` (above the prompt),
    ``prompt`` and ``input`` (below it).

    Raises:
        RowError: One of them holds no text.
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
    around = [
        read_text(row, columns[role]) if role != "prompt" else None
        for role in ("context", "prompt", "input")
        if role == "prompt" or (role in columns and columns[role] in row)
    ]
    if all(text is None or not text.strip() for text in around):
        return turns + read_part("user", value, column)
    texts = [make_text(value, column) if text is None else text for text in around]
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
        RowError: One of them is absent or no text.
    """
    turns = read_prompt(row, columns)
    column = columns["answer"]
    if column not in row:
        raise RowError(f'no "{column}"')
    return ConvertedRow(turns + read_part("assistant", row[column], column))


def quicken_pair(columns: Columns) -> Quick | None:
    """For rows of two texts, and a third below the first."""
    if set(columns) - {"prompt", "answer", "input"}:
        return None
    prompt, answer, below = columns["prompt"], columns["answer"], columns.get("input")

    def read(row: Row) -> Turns | None:
        asked, said, more = row.get(prompt), row.get(answer), row.get(below) if below else None
        if type(asked) is not str or type(said) is not str or "\n\nAssistant:" in asked:
            return None
        if more is not None:
            if type(more) is not str or not asked or asked.isspace():
                return None
            asked = f"{asked}\n\n{more}" if more and not more.isspace() else asked
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]

    return read


ALPACA = Shape(
    "alpaca",
    "instruction, (input), output or response, (history), (system)",
    {
        "prompt": {"instruction": TELLING},
        "answer": {"output": TELLING, "response": TELLING, "answer": USUAL, "completion": USUAL},
    },
    convert_pair,
    {"input": INPUT, "history": HISTORY, "system": SYSTEM},
    quicken=quicken_pair,
)
PROMPT_COMPLETION = Shape(
    "prompt_completion",
    "prompt, completion or response",
    {"prompt": PROMPT, "answer": COMPLETION},
    convert_pair,
    {"system": SYSTEM, "tools": TOOLS},
    evidence=weigh_without,
    doubt=CHOICES_LEFT_OUT,
    quicken=quicken_pair,
)
# Columns that are a prompt and its answer only beside one another.
TOGETHER = (
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
        quicken=quicken_pair,
    )


def _convert_question(row: Row, columns: Columns) -> ConvertedRow:
    """A question whose answer may also be true or false (BoolQ, https://arxiv.org/abs/1905.10044), or a list of texts
    that say the same, the first of which is learned (NQ-open)."""
    column = columns["answer"]
    value = row.get(column)
    if isinstance(value, bool):
        answer = "yes" if value else "no"
    elif isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        answer = value[0]
    else:
        return convert_pair(row, columns)
    return ConvertedRow([*read_prompt(row, columns), make_turn("assistant", answer)])


PAIRS = tuple(_pair_columns(*columns) for columns in TOGETHER)
QUESTION_ANSWER = Shape(
    "question_answer",
    "question, (context), answer or response",
    {"prompt": QUESTION, "answer": {"answer": TELLING, "response": USUAL}},
    _convert_question,
    {"context": {"context": TELLING, "passage": TELLING}, "system": SYSTEM},
    evidence=weigh_without,
    doubt=CHOICES_LEFT_OUT,
    quicken=quicken_pair,
)
