"""Keys of turns that are read past, such as ``name``, ``tool_call_id`` or the reasoning beside an answer.

They are counted while the rows are read, and the report lists them: nothing in a row is left out unseen.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.corpus.reading.shapes.dialogues import PAIR_KEYS, SPEAKERS, choose_keys
from tasks.corpus.reading.shapes.shape import Columns, Row
from tasks.corpus.rows.rows import Listing
from tasks.language_models.templates.message_format import list_unused

log = logging.getLogger(__name__)

HEADING = "Unused parts of turns"
MAX_LISTED_KEYS = 20


def count_unused_turn_keys(row: Row, columns: Columns) -> Counter[str]:
    """Number of turns of a row by the keys that hold something and are not used.

    Args:
        row: The row as the source read it.
        columns: Role to column; the turns are looked for in all of them.
    """
    counts: Counter[str] = Counter()
    for column in columns.values():
        value = row.get(column)
        for turn in value if isinstance(value, list) else (value,) if isinstance(value, Mapping) else ():
            if isinstance(turn, Mapping) and (len(turn) > 2 or any(isinstance(v, list) for v in turn.values())):
                counts.update(set(_list_unused(turn)))
    return counts


def _list_unused(turn: Mapping[str, Any]) -> Iterator[str]:
    keys = choose_keys(turn)
    if keys is not None:
        role = SPEAKERS.get(str(turn[keys[0]]).strip().lower())
        yield from list_unused(turn, *keys, answer=role == "assistant")
    elif any(prompt in turn and answer in turn for prompt, answer in PAIR_KEYS):
        used = {"system", *next(keys for keys in PAIR_KEYS if keys[0] in turn and keys[1] in turn)}
        yield from (key for key, value in turn.items() if key not in used and value not in (None, "", [], {}))


def list_unused_turn_keys(title: str, counts: Mapping[str, int]) -> list[Listing]:
    """The counts of a source as a table for the report, also logged; empty without any."""
    if not counts:
        return []
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{key} ({count:,})" for key, count in ranked[:MAX_LISTED_KEYS])
    log.warning('source "%s": not used in turns: %s', title, named)
    rows = tuple((title, key, count) for key, count in ranked[:MAX_LISTED_KEYS])
    more = len(ranked) - len(rows)
    note = "What stands under these keys is neither learned nor shown to the model." + (
        f" {more:,} rarer keys are left out." if more else ""
    )
    return [Listing(f"{HEADING}: {title}", ("source", "key", "turns"), rows, note)]
