"""Rewrite the texts of many conversations quickly.

A step names a pattern; Arrow finds the texts that contain it in one pass, and only those are passed to Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.learned import learned_messages
from tasks.corpus.rows.leaves import Owners, visit_texts
from tasks.corpus.rows.roles import ROLES, Of
from tasks.corpus.rows.rows import Listing, column_messages, join_turns, row_of_turn

Mask = np.ndarray[Any, np.dtype[np.bool_]]
EXAMPLES = 3
MAX_CHANGED_WORDS = 300
EXAMPLE_CHARACTERS = 90


@dataclass(frozen=True)
class Cleaned:
    """Result of a cleaning step.

    Attributes:
        table: As many rows as before.
        reasons: Per row the reason to drop it, None to keep it; None when all rows are kept.
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
    """Drop rows for which a function gives a reason.

    Args:
        table: The rows.
        of: Turns of a row that the function gets, joined by newlines.
        judge: Returns the reason to drop a text, or None to keep it.
    """
    return Cleaned(table, [judge(text) for text in join_turns(learned_messages(table), ROLES[of])])


def find_mentions(table: pa.Table, pattern: str) -> Mask:
    """Per row whether any of its turns contains an RE2 pattern."""
    messages = column_messages(table)
    found = np.asarray(pc.match_substring_regex(messages.flatten().field("content"), pattern))
    return np.bincount(row_of_turn(messages)[found], minlength=len(messages)) > 0


def rewrite_texts(
    table: pa.Table, pattern: str, repair: Callable[[str], str], show_before: bool = True, rows: Mask | None = None
) -> Cleaned:
    """Pass the texts that contain a pattern through a function.

    Args:
        table: The rows.
        pattern: RE2 pattern that a text must contain to be passed to the function.
        repair: Returns the new text.
        show_before: Whether examples may show the original.
        rows: Per row whether its texts may change; None: all may.

    Returns:
        The rows with the new texts.
    """
    changes = np.zeros(table.num_rows, dtype=bool)
    old: list[str] = []
    new: list[str] = []

    def replace_texts(texts: pa.Array, owners: Owners) -> pa.Array:
        contains = np.asarray(pc.fill_null(pc.match_substring_regex(texts, pattern), False))
        matching = np.flatnonzero(contains if rows is None else contains & rows[owners])
        before = texts.take(pa.array(matching)).to_pylist()
        after = [repair(text) for text in before]
        is_changed = np.array([a != b for a, b in zip(before, after, strict=True)], dtype=bool)
        if not is_changed.any():
            return texts
        changed_positions = matching[is_changed]
        changes[owners[changed_positions]] = True
        replacements = [text for text, changed in zip(after, is_changed, strict=True) if changed]
        old.extend(text for text, changed in zip(before, is_changed, strict=True) if changed)
        new.extend(replacements)
        mask = np.zeros(len(texts), dtype=bool)
        mask[changed_positions] = True
        return pc.replace_with_mask(texts, pa.array(mask), pa.array(replacements, texts.type))

    index = table.schema.get_field_index("messages")
    column = visit_texts(column_messages(table), replace_texts)
    table = table.set_column(index, table.schema.field(index), column)
    return Cleaned(table, changed=int(changes.sum()), examples=pick_examples(old, new, show_before))


def pick_examples(old: Sequence[str], new: Sequence[str], show_before: bool = True) -> tuple[tuple[str, str], ...]:
    """A few different changes."""
    # An empty result makes no useful example.
    visible_changes = (show_change(a, b, show_before) for a, b in zip(old, new, strict=True) if b.strip())
    picked: dict[tuple[str, str], None] = {}
    for pair in visible_changes:
        picked[pair] = None
        if len(picked) == EXAMPLES:
            break
    return tuple(picked)


def show_change(before: str, after: str, show_before: bool = True) -> tuple[str, str]:
    """Excerpts of two texts around their first difference."""
    shared_length = min(len(before), len(after))
    start = next((i for i in range(shared_length) if before[i] != after[i]), shared_length)
    begin = max(0, start - EXAMPLE_CHARACTERS // 3)
    ellipsis = "…" if begin else ""

    def cut(text: str) -> str:
        excerpt = text[begin : begin + EXAMPLE_CHARACTERS]
        return ellipsis + make_visible(excerpt) + ("…" if len(text) > begin + EXAMPLE_CHARACTERS else "")

    return (cut(before) if show_before else "(not shown)"), cut(after)


def list_changed_words(before: str, after: str) -> tuple[str, str]:
    """The words that only one of two texts has, or has at another place; runs of them are separated by ` … `."""
    from difflib import SequenceMatcher

    one, other = before.split(), after.split()
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest = min(len(one), len(other)) - start
    end = next((i for i in range(rest) if one[-1 - i] != other[-1 - i]), rest)
    # Longer parts are compared in quadratic time.
    one, other = one[start : len(one) - end][:MAX_CHANGED_WORDS], other[start : len(other) - end][:MAX_CHANGED_WORDS]
    changes = [code for code in SequenceMatcher(None, one, other, autojunk=False).get_opcodes() if code[0] != "equal"]
    of_one = [" ".join(one[low:high]) for _, low, high, _, _ in changes if low < high]
    of_other = [" ".join(other[low:high]) for _, _, _, low, high in changes if low < high]
    return make_visible(" … ".join(of_one)), make_visible(" … ".join(of_other))


def make_visible(text: str) -> str:
    """The text with newlines, tabs and other non-printable characters as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


CONVERSATION_CHARACTERS = 240


def show_conversation(turns: list[dict[str, str]], max_length: int = CONVERSATION_CHARACTERS) -> str:
    """Prompts and answers of a conversation in one line, truncated."""
    text = " → ".join(turn["content"] for turn in turns if turn["role"] != "system")
    return make_visible(text[:max_length]) + ("…" if len(text) > max_length else "")
