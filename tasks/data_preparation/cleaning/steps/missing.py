"""Drops rows without a prompt or without an answer.

Turns after the last answer are not trained on and are removed. The remaining conversation must have a user turn before
its first answer, and no empty turn of user or assistant. A plain text, which is a single turn of the assistant, needs
no prompt.

Example:
    An answer ``...`` or ``-`` drops the row as "empty answer".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

# Letters, digits and symbols (also emoji) are content, and so are brackets and operators, as in ``[]`` and ``*``;
# spaces and the punctuation of prose are not.
_EMPTY = re.compile(r"[\s.,;:!?…_\-–—'\"`]*")


class Missing(Section):
    """Drops rows whose prompt or answer is missing or empty."""

    name: Literal["missing"] = "missing"

    def clean(self, table: pa.Table) -> Cleaned:
        import numpy as np
        import pyarrow as pa

        from tasks.corpus.rows.rows import column_messages, turn_lengths
        from tasks.corpus.rows.texts import EXAMPLES, Cleaned, make_visible

        messages = column_messages(table)
        reasons: list[str | None] = [None] * len(messages)
        lengths = turn_lengths(messages)
        examples: list[tuple[str, str]] = []
        changed = 0
        candidates = np.flatnonzero(~_find_complete(messages))
        for row, turns in zip(candidates.tolist(), messages.take(pa.array(candidates)).to_pylist(), strict=True):
            end = max((i for i, turn in enumerate(turns, 1) if turn["role"] == "assistant"), default=0)
            reasons[row] = find_gap(turns[:end] or turns)
            if reasons[row] is None and end < len(turns):
                changed += 1
                if len(examples) < EXAMPLES:
                    examples.append((make_visible(turns[end]["content"])[:90], "(cut off: no answer follows)"))
                lengths[row] = end
        if not changed:
            return Cleaned(table, reasons)
        index = table.schema.get_field_index("messages")
        column = _shorten(messages, lengths)
        return Cleaned(table.set_column(index, table.schema.field(index), column), reasons, changed, tuple(examples))


def _find_complete(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Rows that are certainly complete: they end in an answer, and every turn has ASCII letters or digits."""
    import numpy as np
    import pyarrow.compute as pc

    from tasks.corpus.rows.rows import find_plain, row_of_turn, turn_lengths

    turns = messages.flatten()
    rows, lengths = row_of_turn(messages), turn_lengths(messages)
    users, answers = (np.asarray(pc.equal(turns.field("role"), role)) for role in ("user", "assistant"))
    without_text = ~np.asarray(pc.match_substring_regex(turns.field("content"), "[A-Za-z0-9]")) & (users | answers)
    first = np.full((2, len(messages)), len(turns))
    for side, of_role in enumerate((users, answers)):
        # Backwards, so that the first turn of each row is written last.
        places = np.flatnonzero(of_role)[::-1]
        first[side][rows[places]] = places
    ends = np.cumsum(lengths) - 1
    complete: np.ndarray[Any, np.dtype[np.bool_]] = (lengths > 0) & ((first[0] < first[1]) | find_plain(messages))
    complete[complete] = answers[ends[complete]]
    complete[rows[without_text]] = False
    return complete


def _shorten(messages: pa.ListArray, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> pa.ListArray:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.rows import row_of_turn, turn_lengths

    before = turn_lengths(messages)
    rows = row_of_turn(messages)
    places = np.arange(len(rows)) - (np.cumsum(before) - before)[rows]
    turns = messages.flatten().filter(pa.array(places < lengths[rows]))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), turns)


def find_gap(turns: list[dict[str, Any]]) -> str | None:
    """Why a conversation cannot be trained on; None if it can."""
    roles = [turn["role"] for turn in turns]
    if "assistant" not in roles:
        return "no answer"
    if roles == ["assistant"]:
        return "empty text" if _EMPTY.fullmatch(turns[0]["content"]) else None
    if "user" not in roles[: roles.index("assistant")]:
        return "no prompt before the first answer"
    for turn in turns:
        if turn["role"] in ("user", "assistant") and _EMPTY.fullmatch(turn["content"]):
            return "empty prompt" if turn["role"] == "user" else "empty answer"
    return None
