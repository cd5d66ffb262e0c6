"""How many rows a packed epoch has: best-fit decreasing, as TRL's ``bfd`` packs.

Each conversation goes, longest first, into the fullest row that still has room, else into a new one
(Ding et al. 2024, arXiv:2404.10830). TRL packs 1,000 conversations at a time.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

CHUNK = 1000


def count_packed_rows(lengths: Sequence[int], max_tokens: int, chunk: int = CHUNK) -> int:
    """Rows after packing.

    Args:
        lengths: Tokens of each conversation, in training order; longer ones count as ``max_tokens``.
        max_tokens: Capacity of a row.
        chunk: Conversations packed together.
    """
    return sum(_rows_of_chunk(lengths[start : start + chunk], max_tokens) for start in range(0, len(lengths), chunk))


def _rows_of_chunk(lengths: Sequence[int], max_tokens: int) -> int:
    rooms: list[int] = []  # free tokens of the open rows, ascending
    rows = 0
    for length in sorted((min(n, max_tokens) for n in lengths if n > 0), reverse=True):
        place = bisect.bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms.pop(place)
        else:
            room = max_tokens
            rows += 1
        if room > length:
            bisect.insort(rooms, room - length)
    return rows
