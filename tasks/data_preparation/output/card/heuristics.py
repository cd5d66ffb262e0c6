"""The number of rows in a sample that published quality rules would flag. No row is dropped.

The rules were made for web pages, while dialogues are short; for these the minimum number of words and of English stop
words is lifted. Plain texts are measured by the rules as published. The rules for prose do not apply to scripts without
spaces.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from tasks.corpus.rows.rows import column_messages, find_plain, join_turns
from tasks.corpus.rows.texts import Cleaned
from tasks.corpus.text.words import is_unspaced
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.refusals import Refusals
from tasks.data_preparation.cleaning.steps.repetition import Repetition


class Rule(Protocol):
    """A cleaning step, used to measure."""

    def clean(self, table: pa.Table) -> Cleaned: ...


PROSE = "Prose (Gopher)"
ANY_TEXT: tuple[tuple[str, Rule], ...] = (
    ("Repetition (Gopher)", Repetition(of="conversation")),
    (
        "Web text (C4)",
        C4(of="conversation", terminal=False, min_line_words=0, min_sentences=0, span=0),
    ),
)
DIALOGUES: tuple[tuple[str, Rule], ...] = (
    (PROSE, Quality(of="conversation", min_words=2, min_stop_words=0)),
    ("Answers", Echo()),
    ("Answers", Refusals()),
)
DOCUMENTS: tuple[tuple[str, Rule], ...] = ((PROSE, Quality()),)


@dataclass(frozen=True)
class Flagged:
    """Rows that a rule would flag.

    Attributes:
        family: Source of the rule.
        rule: The reason it gives.
        count: Number of rows.
    """

    family: str
    rule: str
    count: int


def measure_quality(table: pa.Table) -> tuple[list[Flagged], int]:
    """The rows each rule would flag, the most frequent first, and the number of rows flagged by any rule."""
    messages = column_messages(table)
    plain = find_plain(messages)
    unspaced = [is_unspaced(text) for text in join_turns(messages, ["user", "assistant"])]
    reasons: list[list[tuple[str, str]]] = [[] for _ in range(table.num_rows)]
    for rules, places in (
        (ANY_TEXT, range(table.num_rows)),
        (DIALOGUES, [row for row, document in enumerate(plain) if not document]),
        (DOCUMENTS, [row for row, document in enumerate(plain) if document]),
    ):
        if not len(places):
            continue
        part = table.take(pa.array(places, pa.int64()))
        for family, rule in rules:
            for row, reason in zip(places, rule.clean(part).reasons or [None] * len(places), strict=True):
                if reason is not None and not (family == PROSE and unspaced[row]):
                    reasons[row].append((family, reason))
    counts = Counter(found for each in reasons for found in each)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Flagged(*names, count) for names, count in ordered], sum(bool(each) for each in reasons)
