"""Rows without a question or without an answer.

Turns after the last answer have nothing to teach and are cut off; then a conversation must hold a user's turn
before its first answer, and every user's and assistant's turn must say something. Plain text, one assistant's turn
and nothing else, needs no question.

Example:
    An answer ``...`` or ``-`` drops the row as "empty answer".
"""

from __future__ import annotations

import re
from typing import Any, Literal

import pyarrow as pa

from tasks.contracts.params import Section
from tasks.data_preparation.cleaning.texts import EXAMPLES, Cleaned, make_visible

# Letters, digits and symbols (also emoji) say something; spaces and plain punctuation do not.
_SAYS_NOTHING = re.compile(r"[\s.,;:!?…_\-–—'\"`()\[\]*/\\|]*")


class Missing(Section):
    """Drops rows whose prompt or answer is missing or empty."""

    name: Literal["missing"] = "missing"

    def clean(self, table: pa.Table) -> Cleaned:
        reasons: list[str | None] = []
        kept: list[list[dict[str, Any]]] = []
        examples: list[tuple[str, str]] = []
        changed = 0
        for turns in table["messages"].to_pylist():
            end = max((i for i, turn in enumerate(turns, 1) if turn["role"] == "assistant"), default=0)
            reasons.append(find_gap(turns[:end] or turns))
            if reasons[-1] is None and end < len(turns):
                changed += 1
                if len(examples) < EXAMPLES:
                    examples.append((make_visible(turns[end]["content"])[:90], "(cut off: no answer follows)"))
                turns = turns[:end]
            kept.append(turns)
        if not changed:
            return Cleaned(table, reasons)
        index = table.schema.get_field_index("messages")
        field = table.schema.field(index)
        column = pa.array(kept, field.type)
        return Cleaned(table.set_column(index, field, column), reasons, changed, tuple(examples))


def find_gap(turns: list[dict[str, Any]]) -> str | None:
    """Why a conversation cannot be learned from, if so."""
    roles = [turn["role"] for turn in turns]
    if "assistant" not in roles:
        return "no answer"
    if roles == ["assistant"]:
        return "empty text" if _SAYS_NOTHING.fullmatch(turns[0]["content"]) else None
    if "user" not in roles[: roles.index("assistant")]:
        return "no prompt before the first answer"
    for turn in turns:
        if turn["role"] in ("user", "assistant") and _SAYS_NOTHING.fullmatch(turn["content"]):
            return "empty prompt" if turn["role"] == "user" else "empty answer"
    return None
