"""Rows without a question or without an answer.

Turns after the last answer have nothing to teach and are cut off; then a conversation must hold a user's turn
before its first answer, and every user's and assistant's turn must say something. Plain text, one assistant's turn
and nothing else, needs no question.

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

# Letters, digits and symbols (also emoji) say something; spaces and plain punctuation do not.
_SAYS_NOTHING = re.compile(r"[\s.,;:!?…_\-–—'\"`()\[\]*/\\|]*")


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
        doubtful = np.flatnonzero(~_find_sound(messages))
        for row, turns in zip(doubtful.tolist(), messages.take(pa.array(doubtful)).to_pylist(), strict=True):
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


def _find_sound(messages: pa.ListArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Rows without a gap that end in an answer, as far as a quick look tells: letters or digits in every turn."""
    import numpy as np
    import pyarrow.compute as pc

    from tasks.corpus.rows.rows import find_plain, row_of_turn, turn_lengths

    turns = messages.flatten()
    rows, lengths = row_of_turn(messages), turn_lengths(messages)
    users, answers = (np.asarray(pc.equal(turns.field("role"), role)) for role in ("user", "assistant"))
    quiet = ~np.asarray(pc.match_substring_regex(turns.field("content"), "[A-Za-z0-9]")) & (users | answers)
    first = np.full((2, len(messages)), len(turns))
    for side, spoken in enumerate((users, answers)):
        # Backwards, so that the first turn of each row is written last.
        places = np.flatnonzero(spoken)[::-1]
        first[side][rows[places]] = places
    ends = np.cumsum(lengths) - 1
    sound: np.ndarray[Any, np.dtype[np.bool_]] = (lengths > 0) & ((first[0] < first[1]) | find_plain(messages))
    sound[sound] = answers[ends[sound]]
    sound[rows[quiet]] = False
    return sound


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
