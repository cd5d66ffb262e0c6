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
    SPECIFIC,
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

CHOSEN: Names = {"chosen": SPECIFIC, "preferred": USUAL}
REJECTED: Names = {"rejected": SPECIFIC, "dispreferred": USUAL}
PROMPTS: Names = {"prompt": SPECIFIC, "instruction": SPECIFIC, "question": SPECIFIC, "query": USUAL, "input": USUAL}
DESIRABLE: Names = {"label": SPECIFIC, "desirable": SPECIFIC, "kto_tag": SPECIFIC, "thumbs_up": USUAL}
TRUTH_VALUES = {"true": True, "false": False}


def make_comparison(
    chosen: Turns, others: list[tuple[Turns, float | None]], score: float | None, start: int
) -> ConvertedRow:
    """A conversation with the preferred answer, and the other answers to the same prompt.

    Args:
        chosen: Prompt and preferred answer.
        others: Prompt and another answer each, with its score.
        score: Score of the preferred answer.
        start: Number of turns of the common prompt.
    """
    return ConvertedRow(chosen, start, score, True, [Other(turns[start:], other) for turns, other in others])


def _convert_explicit(row: Row, columns: Columns) -> ConvertedRow:
    if _is_whole(row, columns):
        return _convert_whole(row, columns)
    prompt = read_dialogue(row, columns, columns["messages"]) if "messages" in columns else read_prompt(row, columns)
    chosen, rejected = (
        prompt + read_part("assistant", _read(row, columns[role]), columns[role]) for role in ("chosen", "rejected")
    )
    return make_comparison(chosen, [(rejected, 0.0)], 1.0, len(prompt))


def _is_whole(row: Row, columns: Columns) -> bool:
    """Whether both answers are whole dialogues that repeat the prompt of its own column."""
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
    elif start < min(len(first), len(second)) and {first[start]["role"], second[start]["role"]} != {"assistant"}:
        raise RowError(f"chosen and rejected answer different prompts, which part at turn {start + 1}")
    # When one dialogue is a prefix of the other, or both are equal, the last answer is compared.
    while start and (start >= min(len(first), len(second)) or first[start]["role"] != "assistant"):
        start -= 1
    if not start:
        raise RowError("chosen and rejected have no prompt in common")
    return make_comparison(first, [(second, 0.0)], 1.0, start)


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
    is_good = read_mark(_read(row, columns["desirable"]))
    if is_good is None:
        raise RowError(f'"{columns["desirable"]}" is neither true nor false')
    start = len(turns) - 1
    return ConvertedRow(turns, start, float(is_good), is_good)


def read_mark(value: Any) -> bool | None:
    """Whether an answer is marked good; None when the value is neither true nor false."""
    if isinstance(value, bool):
        return value
    return TRUTH_VALUES.get(value.strip().lower()) if isinstance(value, str) else None


def _read(row: Row, column: str) -> Any:
    if column not in row:
        raise RowError(f'no "{column}"')
    return row[column]


_PROMPT_EXTRAS = {"input": INPUT, "system": SYSTEM, "tools": TOOLS}
PREFERENCE = Shape(
    "preference",
    "prompt, chosen, rejected",
    {"prompt": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED},
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
    {"prompt": PROMPTS, "answer": COMPLETION, "desirable": DESIRABLE},
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
