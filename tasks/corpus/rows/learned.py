"""Which answers of a row are judged: those that are learned, not those that are only context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.records import MESSAGES, UNTRAINED
from tasks.corpus.rows.roles import CONTEXT
from tasks.corpus.rows.rows import column_messages, turn_lengths


def learned_messages(table: pa.Table) -> pa.ListArray:
    """The ``messages`` column, in which answers without loss have the role `CONTEXT`, so that none is judged by them.

    Example:
        A conversation of user, assistant (in ``untrained``), user, assistant has the roles user, context, user,
        assistant.
    """
    messages = column_messages(table)
    if UNTRAINED.name not in table.column_names or table[UNTRAINED.name].null_count == table.num_rows:
        return messages
    lengths = turn_lengths(messages)
    places = pc.fill_null(pc.list_value_length(table[UNTRAINED.name]), 0)
    starts = np.repeat(np.cumsum(lengths) - lengths, np.asarray(places))
    is_context = np.zeros(int(lengths.sum()), bool)
    is_context[starts + np.asarray(pc.list_flatten(table[UNTRAINED.name]))] = True
    turns = messages.flatten()
    roles = pc.if_else(pa.array(is_context), CONTEXT, turns.field("role"))
    renamed = pa.StructArray.from_arrays([roles, turns.field("content")], fields=list(MESSAGES.value_type))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, renamed).cast(MESSAGES)


def move_untrained(
    places: Sequence[int], before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> list[int]:
    """Places of the answers without loss once other turns were joined or removed: the k-th answer stays the k-th."""
    old, new = ([place for place, turn in enumerate(turns) if turn["role"] == "assistant"] for turns in (before, after))
    return [new[old.index(place)] for place in places]
