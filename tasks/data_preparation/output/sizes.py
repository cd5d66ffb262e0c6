"""How much there is: turns, words, characters, lengths. Arrow counts, so that a million rows are cheap."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.rows import column_messages, turn_lengths
from tasks.corpus.text.words import PIECE

Counts = np.ndarray[Any, np.dtype[np.int64]]

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
# Bytes of a token, of the tokenizers in use: in English four characters, in Chinese one or two.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Sizes:
    """Per row.

    Attributes:
        turns: Turns.
        asked: Turns of the user.
        characters: Role to characters of its turns.
        words: Role to words of its turns; words are what stands between spaces, and each character of a script without.
        bytes: In UTF-8, all turns.
    """

    turns: Counts
    asked: Counts
    characters: dict[str, Counts]
    words: dict[str, Counts]
    bytes: Counts


def measure_sizes(table: pa.Table) -> Sizes:
    """Sizes of all rows."""
    messages = column_messages(table)
    turns = turn_lengths(messages)
    owners = np.repeat(np.arange(len(turns)), turns)
    flat = messages.flatten()
    texts, roles = flat.field("content"), flat.field("role")
    of_role = {role: np.asarray(pc.equal(roles, role)) for role in ("system", "user", "assistant", "tool")}

    def add(values: Any, chosen: Any) -> Counts:
        return np.bincount(owners[chosen], weights=np.asarray(values)[chosen], minlength=len(turns)).astype(np.int64)

    characters = pc.utf8_length(texts)
    words = pc.count_substring_regex(texts, PIECE)
    every = np.ones(len(texts), dtype=bool)
    return Sizes(
        turns,
        np.bincount(owners[of_role["user"]], minlength=len(turns)),
        {role: add(characters, chosen) for role, chosen in of_role.items()},
        {role: add(words, chosen) for role, chosen in of_role.items()},
        add(pc.binary_length(texts), every),
    )


def show_percentiles(values: Counts) -> list[int]:
    """The values at `PERCENTILES`, each one that occurs."""
    if not len(values):
        return [0] * len(PERCENTILES)
    found: list[int] = np.percentile(values, PERCENTILES, method="inverted_cdf").astype(int).tolist()
    return found


def count_values(column: pa.ChunkedArray) -> Counter[str]:
    """How often each value stands in a column of texts."""
    return Counter({each["values"]: each["counts"] for each in pc.value_counts(column.drop_null()).to_pylist()})
