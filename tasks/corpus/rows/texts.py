"""Rewriting the texts of many conversations without touching the clean ones.

A step names the pattern that a text must contain to be worth a look; Arrow finds those in one pass, and only
they go through Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.leaves import Owners, visit_texts
from tasks.corpus.rows.roles import ROLES, Of
from tasks.corpus.rows.rows import Listing, column_messages, join_turns

EXAMPLES = 3
WINDOW = 90


@dataclass(frozen=True)
class Cleaned:
    """What a cleaning step gives back.

    Attributes:
        table: As many rows as before.
        reasons: Per row why it should go, None to keep it; None when all stay.
        changed: Number of rows changed.
        examples: A few pairs of text before and after.
        notes: Further figures.
        listings: Tables for the report.
    """

    table: pa.Table
    reasons: Sequence[str | None] | None = None
    changed: int = 0
    examples: tuple[tuple[str, str], ...] = ()
    notes: dict[str, int | float] | None = None
    listings: tuple[Listing, ...] = ()


def judge_texts(table: pa.Table, of: Of, judge: Callable[[str], str | None]) -> Cleaned:
    """Ask a function for the reason to drop each row.

    Args:
        table: The rows.
        of: Which turns of a row it reads, joined by line ends.
        judge: Text to reason, or None to keep the row.
    """
    return Cleaned(table, [judge(text) for text in join_turns(column_messages(table), ROLES[of])])


def rewrite_texts(table: pa.Table, pattern: str, repair: Callable[[str], str], show_before: bool = True) -> Cleaned:
    """Pass the texts that contain a pattern through a function.

    Args:
        table: The rows.
        pattern: RE2 pattern of a text worth a look.
        repair: Text to text.
        show_before: Whether examples may show the original.

    Returns:
        The rows with the new texts.
    """
    changes = np.zeros(table.num_rows, dtype=bool)
    old: list[str] = []
    new: list[str] = []

    def exchange(texts: pa.Array, owners: Owners) -> pa.Array:
        suspects = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring_regex(texts, pattern), False)))
        before = texts.take(pa.array(suspects)).to_pylist()
        after = [repair(text) for text in before]
        differs = np.array([a != b for a, b in zip(before, after, strict=True)], dtype=bool)
        if not differs.any():
            return texts
        places = suspects[differs]
        changes[owners[places]] = True
        put = [text for text, other in zip(after, differs, strict=True) if other]
        old.extend(text for text, other in zip(before, differs, strict=True) if other)
        new.extend(put)
        mask = np.zeros(len(texts), dtype=bool)
        mask[places] = True
        return pc.replace_with_mask(texts, pa.array(mask), pa.array(put, texts.type))

    index = table.schema.get_field_index("messages")
    column = visit_texts(column_messages(table), exchange)
    table = table.set_column(index, table.schema.field(index), column)
    return Cleaned(table, changed=int(changes.sum()), examples=pick_examples(old, new, show_before))


def pick_examples(old: Sequence[str], new: Sequence[str], show_before: bool = True) -> tuple[tuple[str, str], ...]:
    """A few different changes."""
    # Texts that say nothing on either side show nothing either.
    telling = (show_change(a, b, show_before) for a, b in zip(old, new, strict=True) if b.strip())
    picked: dict[tuple[str, str], None] = {}
    for pair in telling:
        picked[pair] = None
        if len(picked) == EXAMPLES:
            break
    return tuple(picked)


def show_change(before: str, after: str, show_before: bool = True) -> tuple[str, str]:
    """The place where two texts first differ, with some text around it."""
    limit = min(len(before), len(after))
    start = next((i for i in range(limit) if before[i] != after[i]), limit)
    begin = max(0, start - WINDOW // 3)
    lead = "…" if begin else ""

    def cut(text: str) -> str:
        piece = text[begin : begin + WINDOW]
        return lead + make_visible(piece) + ("…" if len(text) > begin + WINDOW else "")

    return (cut(before) if show_before else "(not shown)"), cut(after)


def make_visible(text: str) -> str:
    """Line ends, tabs and characters without a shape of their own as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


SHOWN = 240


def show_conversation(turns: list[dict[str, str]], longest: int = SHOWN) -> str:
    """Prompts and answers of a conversation in one line, cut."""
    text = " → ".join(turn["content"] for turn in turns if turn["role"] != "system")
    return make_visible(text[:longest]) + ("…" if len(text) > longest else "")
