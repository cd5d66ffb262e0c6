"""Questions on a passage whose answers are pieces of it: SQuAD (Rajpurkar et al. 2016 and 2018,
https://arxiv.org/abs/1606.05250, https://arxiv.org/abs/1806.03822).

Nested files (``data``, ``paragraphs``, ``qas``) are taken apart before; answers come as a list of objects or, as the
hub has them, as an object of lists. The first answer is learned, different ones are kept beside it. A question
without an answer in the passage is answered ``unanswerable``, as in FLAN (https://arxiv.org/abs/2301.13688).

Example:
    ``{"context": "Rome is old.", "question": "What is old?", "answers": [{"text": "Rome", "answer_start": 0}]}``
    becomes ``user: Rome is old.`` (an empty line, then) ``What is old?`` and ``assistant: Rome``.
"""

from __future__ import annotations

from typing import Any

from tasks.corpus.reading.shapes.shape import (
    TELLING,
    USUAL,
    Columns,
    Conversation,
    Other,
    Path,
    Place,
    Row,
    RowError,
    Shape,
    Span,
    Talk,
    read_piece,
)

UNANSWERABLE = "unanswerable"


def _convert(row: Row, columns: Columns) -> Conversation:
    answers = _read_answers(row, columns["answers"])
    talk = Talk()
    talk.say("user", read_piece(row, columns["context"]), "\n\n", read_piece(row, columns["prompt"]))
    distinct = list(dict.fromkeys(text for text, _ in answers))
    talk.say("assistant", distinct[0] if distinct else UNANSWERABLE)
    places: list[Place] = list(talk.places)
    for text, path in answers:
        number = distinct.index(text)
        places.append((path, (Span(number, 0 if number else 1, 0, len(text)),)))
    others = [Other([{"role": "assistant", "content": text}], 1.0) for text in distinct[1:]]
    return Conversation(talk.turns, places, 1, 1.0, True, others)


def _read_answers(row: Row, column: str) -> list[tuple[str, Path]]:
    value = row.get(column)
    pairs: list[tuple[Any, Path]]
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        pairs = [(text, (column, "text", number)) for number, text in enumerate(value["text"])]
    elif isinstance(value, list):
        pairs = [
            (answer.get("text"), (column, number, "text")) if isinstance(answer, dict) else (answer, (column, number))
            for number, answer in enumerate(value)
        ]
    else:
        raise RowError(f'"{column}" is no list of answers')
    if not all(isinstance(text, str) for text, _ in pairs):
        raise RowError("an answer holds no text")
    return pairs


SQUAD = Shape(
    "squad",
    "context, question, answers: [{text, answer_start}, ...]",
    {
        "context": {"context": TELLING, "passage": USUAL},
        "prompt": {"question": TELLING},
        "answers": {"answers": TELLING},
    },
    _convert,
    compares=True,
)
