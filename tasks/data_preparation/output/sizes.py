"""Sizes of conversations: turns, words, characters and bytes, counted by Arrow so that a million rows are cheap."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.learned import learned_messages
from tasks.corpus.rows.roles import CONTEXT
from tasks.corpus.rows.rows import turn_lengths
from tasks.corpus.text.words import PIECE

Counts = np.ndarray[Any, np.dtype[np.int64]]

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
# Average bytes of a token of common tokenizers: four characters of English, one or two of Chinese.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Sizes:
    """Sizes of each row.

    Attributes:
        turns: Number of turns.
        user_turns: Number of turns of the user.
        characters: Role to characters in its turns; answers without loss have the role `CONTEXT`.
        words: Role to words in its turns. Words are separated by spaces; in scripts without spaces, each character is
            a word.
        bytes: Bytes of all turns in UTF-8.
    """

    turns: Counts
    user_turns: Counts
    characters: dict[str, Counts]
    words: dict[str, Counts]
    bytes: Counts


def measure_sizes(table: pa.Table) -> Sizes:
    """The sizes of all rows."""
    messages = learned_messages(table)
    turns = turn_lengths(messages)
    owners = np.repeat(np.arange(len(turns)), turns)
    flat = messages.flatten()
    texts, roles = flat.field("content"), flat.field("role")
    of_role = {role: np.asarray(pc.equal(roles, role)) for role in ("system", "user", "assistant", CONTEXT, "tool")}

    def add(values: Any, chosen: Any) -> Counts:
        return np.bincount(owners[chosen], weights=np.asarray(values)[chosen], minlength=len(turns)).astype(np.int64)

    characters = pc.utf8_length(texts)
    words = pc.count_substring_regex(texts, PIECE)
    all_turns = np.ones(len(texts), dtype=bool)
    return Sizes(
        turns,
        np.bincount(owners[of_role["user"]], minlength=len(turns)),
        {role: add(characters, chosen) for role, chosen in of_role.items()},
        {role: add(words, chosen) for role, chosen in of_role.items()},
        add(pc.binary_length(texts), all_turns),
    )


def show_percentiles(values: Counts) -> list[int]:
    """The values at `PERCENTILES`, without interpolation."""
    if not len(values):
        return [0] * len(PERCENTILES)
    percentiles: list[int] = np.percentile(values, PERCENTILES, method="inverted_cdf").astype(int).tolist()
    return percentiles


def count_values(column: pa.ChunkedArray) -> Counter[str]:
    """Number of occurrences of each value of a text column, without nulls."""
    return Counter({each["values"]: each["counts"] for each in pc.value_counts(column.drop_null()).to_pylist()})
