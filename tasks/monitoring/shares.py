"""How much of the new training rows one client or one text may be, so that nobody teaches the model alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from tasks.monitoring.feedback import FeedbackRow

# Share of the training rows from which on an answer is usual.
USUAL_SHARE = 0.01
NAME_CHARACTERS = 60


@dataclass(frozen=True)
class LeftOut:
    """Rows of one client or one text that were too many.

    Attributes:
        what: ``key`` or ``text``.
        name: The key as logged, or the beginning of the text.
        taken: Rows that were taken.
        left_out: Rows that were left out; they are considered again by the next retrain.
    """

    what: str
    name: str
    taken: int
    left_out: int


def find_limit(counts: Sequence[int], others: int, share: float, always: int) -> int:
    """The largest number of rows a group may have so that none has more than a share of all rows taken.

    Args:
        counts: Rows of each group.
        others: Rows without a limit.
        share: Maximum share of one group.
        always: Rows that every group may have, whatever its share.
    """
    limit = max(counts, default=0)
    while True:
        taken = others + sum(min(count, limit) for count in counts)
        lower = max(always, int(share * taken))
        if lower >= limit:
            return limit
        limit = lower


def limit_groups(
    rows: Sequence[FeedbackRow], what: str, group: Callable[[FeedbackRow], str | None], share: float, always: int
) -> tuple[list[FeedbackRow], list[LeftOut]]:
    """Leave out rows of groups that are too large, by the order of their content hashes.

    Args:
        rows: The rows.
        what: What a group is, for the report.
        group: Group of a row; None for rows without a limit.
        share: Maximum share of one group, 0 to 1.
        always: Rows that every group may have.
    """
    groups = [group(row) for row in rows]
    counts = Counter(name for name in groups if name is not None)
    limit = find_limit(list(counts.values()), groups.count(None), share, always)
    taken: Counter[str] = Counter()
    kept = []
    for row, name in sorted(zip(rows, groups, strict=True), key=lambda pair: pair[0].id):
        if name is not None:
            if taken[name] == limit:
                continue
            taken[name] += 1
        kept.append(row)
    left_out = [LeftOut(what, name, limit, count - limit) for name, count in sorted(counts.items()) if count > limit]
    return kept, left_out


def find_usual_answers(train: Path, least_share: float = USUAL_SHARE) -> frozenset[str]:
    """Answers that are so large a share of the training rows, such as the names of classes; none without a file."""
    if not train.is_file():
        return frozenset()
    counts: Counter[str] = Counter()
    for batch in pq.ParquetFile(train).iter_batches(columns=["messages"]):
        counts.update(turns[-1]["content"] for turns in batch.column(0).to_pylist() if turns)
    return frozenset(text for text, count in counts.items() if count >= least_share * counts.total())


def limit_shares(
    rows: Sequence[FeedbackRow], key_share: float, text_share: float, always: int, train: Path
) -> tuple[list[FeedbackRow], list[LeftOut]]:
    """Leave out what one key or one answer has too much of.

    Args:
        rows: New training rows.
        key_share: Maximum share of one key, 0 to 1.
        text_share: Maximum share of one answer, 0 to 1.
        always: Rows of one key or answer that are always taken.
        train: The present training rows; answers that are common in them have no limit.
    """
    always = max(always, 1)
    kept, of_keys = limit_groups(rows, "key", lambda row: row.key, key_share, always)
    left, of_texts = limit_groups(kept, "text", lambda row: row.answer, text_share, always)
    if of_texts:
        usual = find_usual_answers(train)
        left, of_texts = limit_groups(
            kept, "text", lambda row: None if row.answer in usual else row.answer, text_share, always
        )
    return left, of_keys + [replace(text, name=plain_start(text.name)) for text in of_texts]


def plain_start(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= NAME_CHARACTERS else f"{line[: NAME_CHARACTERS - 1]}…"


def describe_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """A sentence for each key and text that had too many rows."""
    settings = {"key": "maximum_key_share", "text": "maximum_text_share"}
    names = {"key": "of key {}", "text": "with the answer “{}”"}
    return [
        f"{item.left_out:,} of {item.taken + item.left_out:,} corrected rows {names[item.what].format(item.name)} are "
        f"left out (see monitoring.retraining.{settings[item.what]})"
        for item in left_out
    ]
