"""Questions on a passage whose answers are pieces of it: SQuAD (Rajpurkar et al. 2016 and 2018,
https://arxiv.org/abs/1606.05250, https://arxiv.org/abs/1806.03822).

Nested files (``data``, ``paragraphs``, ``qas``) are flattened before; answers come as a list of objects or, on the hub,
as an object of lists. The first answer is the preferred one, distinct others are kept as other answers. A question
without an answer in the passage is answered ``unanswerable``, as in FLAN (https://arxiv.org/abs/2301.13688).

Example:
    ``{"context": "Rome is old.", "question": "What is old?", "answers": [{"text": "Rome", "answer_start": 0}]}``
    becomes ``user: Rome is old.`` (an empty line, then) ``What is old?`` and ``assistant: Rome``.
"""

from __future__ import annotations

from typing import Any

from tasks.corpus.reading.shapes.shape import (
    SPECIFIC,
    USUAL,
    Columns,
    ConvertedRow,
    Other,
    Row,
    RowError,
    Shape,
    make_turn,
    read_text,
)

UNANSWERABLE = "unanswerable"


def _convert(row: Row, columns: Columns) -> ConvertedRow:
    answers = _read_answers(row, columns["answers"]) or [UNANSWERABLE]
    prompt = f"{read_text(row, columns['context'])}\n\n{read_text(row, columns['prompt'])}"
    others = [Other([make_turn("assistant", text)], 1.0) for text in answers[1:]]
    return ConvertedRow([make_turn("user", prompt), make_turn("assistant", answers[0])], 1, 1.0, True, others)


def _read_answers(row: Row, column: str) -> list[str]:
    """The distinct answers, in their order."""
    value = row.get(column)
    texts: list[Any]
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        texts = value["text"]
    elif isinstance(value, list):
        texts = [answer.get("text") if isinstance(answer, dict) else answer for answer in value]
    else:
        raise RowError(f'"{column}" is no list of answers')
    if not all(isinstance(text, str) for text in texts):
        raise RowError("an answer holds no text")
    return list(dict.fromkeys(texts))


SQUAD = Shape(
    "squad",
    "context, question, answers: [{text, answer_start}, ...]",
    {
        "context": {"context": SPECIFIC, "passage": USUAL},
        "prompt": {"question": SPECIFIC},
        "answers": {"answers": SPECIFIC},
    },
    _convert,
    compares=True,
)
