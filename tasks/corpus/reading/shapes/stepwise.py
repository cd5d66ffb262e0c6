"""Answers whose steps are marked right or wrong, for reward models of processes (Lightman et al. 2023,
https://arxiv.org/abs/2305.20050; the columns are those of TRL's stepwise supervision).

The steps become one answer, parted by empty lines; empty lines within a step become single line breaks. An answer with
a wrong step is marked bad and taught by no supervised training.

Example:
    ``{"prompt": "9 - 2 * 3?", "completions": ["2 * 3 = 6.", "9 - 6 = 4."], "labels": [true, false]}`` becomes
    ``user: 9 - 2 * 3?`` and ``assistant: 2 * 3 = 6.`` (an empty line, then) ``9 - 6 = 4.``, marked bad.
"""

from __future__ import annotations

import re
from typing import Any

from tasks.contracts.records import STEP_END
from tasks.corpus.reading.shapes.dialogues import SYSTEM
from tasks.corpus.reading.shapes.pairs import INPUT, read_prompt
from tasks.corpus.reading.shapes.preferences import PROMPTS
from tasks.corpus.reading.shapes.shape import (
    SPECIFIC,
    USUAL,
    Columns,
    ConvertedRow,
    Names,
    Row,
    RowError,
    Shape,
    make_turn,
)

EDGES, EMPTY_LINES = re.compile(r"\A\s*\n|\n\s*\Z"), re.compile(r"\n\s*\n")
STEP_TEXTS: Names = {"completions": SPECIFIC, "steps": SPECIFIC}
STEP_MARKS: Names = {"labels": SPECIFIC, "step_labels": SPECIFIC, "ratings": USUAL}


def _convert(row: Row, columns: Columns) -> ConvertedRow:
    texts, marks = (_read_list(row, columns[role]) for role in ("steps", "marks"))
    if len(texts) != len(marks):
        raise RowError(f"{len(texts)} steps and {len(marks)} marks")
    if any(not isinstance(text, str) or not text.strip() for text in texts):
        raise RowError("a step is empty or no text")
    if any(mark not in (0, 1) for mark in marks):
        raise RowError(f'"{columns["marks"]}" has a mark that is neither true nor false')
    prompt = read_prompt(row, columns)
    answer = STEP_END.join(EMPTY_LINES.sub("\n", EDGES.sub("", text)) for text in texts)
    right = [bool(mark) for mark in marks]
    turns = [*prompt, make_turn("assistant", answer)]
    return ConvertedRow(turns, len(prompt), float(all(right)), all(right), steps=right)


def _read_list(row: Row, column: str) -> list[Any]:
    value = row.get(column)
    if not isinstance(value, list) or not value:
        raise RowError(f'"{column}" is no list, or an empty one')
    return value


STEPWISE = Shape(
    "stepwise",
    "prompt, completions: [...], labels: [true, false, ...]",
    {"prompt": PROMPTS, "steps": STEP_TEXTS, "marks": STEP_MARKS},
    _convert,
    {"input": INPUT, "system": SYSTEM},
    compares=True,
)
