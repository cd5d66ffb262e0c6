"""A good answer beside a bad one (DPO), and answers marked good or bad (KTO).

Rafailov et al. 2023 (https://arxiv.org/abs/2305.18290) and Ethayarajh et al. 2024
(https://arxiv.org/abs/2402.01306); the implicit prompt is what both dialogues begin with, as in hh-rlhf
(https://github.com/anthropics/hh-rlhf), where a dialogue is one text of ``Human:`` and ``Assistant:`` paragraphs.

Example:
    ``{"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}`` becomes ``user: Hi`` and ``assistant: Hello!``
    with the other answer ``assistant: What?`` of a lower score.
"""

from __future__ import annotations

from typing import Any

from tasks.corpus.reading.shapes.dialogues import (
    SYSTEM,
    TOOLS,
    TURN_COLUMNS,
    find_keys,
    is_transcript,
    read_dialogue,
    read_part,
    read_transcript,
)
from tasks.corpus.reading.shapes.pairs import COMPLETION, INPUT, convert_pair, read_prompt
from tasks.corpus.reading.shapes.shape import (
    TELLING,
    USUAL,
    Columns,
    ConvertedRow,
    Names,
    Other,
    Row,
    RowError,
    Shape,
    Turns,
)

CHOSEN: Names = {"chosen": TELLING, "preferred": USUAL}
REJECTED: Names = {"rejected": TELLING, "dispreferred": USUAL}
ASKED: Names = {"prompt": TELLING, "instruction": TELLING, "question": TELLING, "query": USUAL, "input": USUAL}
DESIRABLE: Names = {"label": TELLING, "desirable": TELLING, "kto_tag": TELLING, "thumbs_up": USUAL}
TRUTH = {"true": True, "false": False}


def put_beside(
    chosen: Turns, others: list[tuple[Turns, float | None]], score: float | None, start: int
) -> ConvertedRow:
    """A conversation and its other answers, which go on from the same prompt.

    Args:
        chosen: Prompt and preferred answer.
        others: Prompt and another answer each, with its score.
        score: Of the preferred answer.
        start: Turns that all of them begin with.
    """
    return ConvertedRow(chosen, start, score, True, [Other(turns[start:], other) for turns, other in others])


def _convert_explicit(row: Row, columns: Columns) -> ConvertedRow:
    if _is_whole(row, columns):
        return _convert_whole(row, columns)
    prompt = read_dialogue(row, columns, columns["messages"]) if "messages" in columns else read_prompt(row, columns)
    chosen, rejected = (
        prompt + read_part("assistant", _read(row, columns[role]), columns[role]) for role in ("chosen", "rejected")
    )
    return put_beside(chosen, [(rejected, 0.0)], 1.0, len(prompt))


def _is_whole(row: Row, columns: Columns) -> bool:
    """Whether both answers are whole dialogues, prompt and all, beside the prompt's own column."""
    return all(_begins_with_prompt(row.get(columns[role])) for role in ("chosen", "rejected"))


def _begins_with_prompt(value: Any) -> bool:
    keys = find_keys(value)
    if keys is None or not isinstance(value, list):
        return is_transcript(value)
    return str(value[0][keys[0]]).lower() in ("user", "human", "system")


def _convert_whole(row: Row, columns: Columns) -> ConvertedRow:
    first, second = (_read_whole(_read(row, columns[role]), columns[role]) for role in ("chosen", "rejected"))
    start = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if start is None:
        start = min(len(first), len(second))
    # Where one goes on after the other has ended, or both are the same, the last answer is what is compared.
    while start and (start >= min(len(first), len(second)) or first[start]["role"] != "assistant"):
        start -= 1
    if not start:
        raise RowError("chosen and rejected have no prompt in common")
    return put_beside(first, [(second, 0.0)], 1.0, start)


def _read_whole(value: Any, column: str) -> Turns:
    if is_transcript(value):
        return read_transcript(value)
    if isinstance(value, list):
        return read_part("user", value, column)
    raise RowError(f'"{column}" is no dialogue')


def _convert_marked(row: Row, columns: Columns) -> ConvertedRow:
    if "messages" in columns:
        turns = read_dialogue(row, columns, columns["messages"])
    else:
        turns = convert_pair(row, columns).turns
    if not turns or turns[-1]["role"] != "assistant":
        raise RowError("no answer that the mark could be about")
    good = read_mark(_read(row, columns["desirable"]))
    if good is None:
        raise RowError(f'"{columns["desirable"]}" is neither true nor false')
    start = len(turns) - 1
    return ConvertedRow(turns, start, float(good), good)


def read_mark(value: Any) -> bool | None:
    """Whether an answer is marked good; None when the value is no mark."""
    if isinstance(value, bool):
        return value
    return TRUTH.get(value.strip().lower()) if isinstance(value, str) else None


def _read(row: Row, column: str) -> Any:
    if column not in row:
        raise RowError(f'no "{column}"')
    return row[column]


_PROMPT_EXTRAS = {"input": INPUT, "system": SYSTEM, "tools": TOOLS}
PREFERENCE = Shape(
    "preference",
    "prompt, chosen, rejected",
    {"prompt": ASKED, "chosen": CHOSEN, "rejected": REJECTED},
    _convert_explicit,
    _PROMPT_EXTRAS,
    compares=True,
)
PREFERENCE_AFTER_TURNS = Shape(
    "preference",
    "conversations, chosen, rejected",
    {"messages": TURN_COLUMNS, "chosen": CHOSEN, "rejected": REJECTED},
    _convert_explicit,
    {"system": SYSTEM, "tools": TOOLS},
    compares=True,
)
PREFERENCE_IMPLICIT = Shape(
    "preference_implicit",
    "chosen, rejected (whole dialogues)",
    {"chosen": CHOSEN, "rejected": REJECTED},
    _convert_whole,
    compares=True,
)
KTO = Shape(
    "kto",
    "prompt, completion, label: true or false",
    {"prompt": ASKED, "answer": COMPLETION, "desirable": DESIRABLE},
    _convert_marked,
    _PROMPT_EXTRAS,
    compares=True,
)
KTO_TURNS = Shape(
    "kto",
    "messages, label: true or false",
    {"messages": TURN_COLUMNS, "desirable": DESIRABLE},
    _convert_marked,
    {"system": SYSTEM, "tools": TOOLS},
    compares=True,
)
