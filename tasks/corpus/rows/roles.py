"""Roles of the turns that a step reads."""

from __future__ import annotations

from typing import Literal

# An answer without loss where answers are judged (`tasks.corpus.rows.learned`); no row is written with this role.
CONTEXT = "context"

Of = Literal["answers", "prompts", "conversation"]

ROLES: dict[Of, tuple[str, ...]] = {
    "answers": ("assistant",),
    "prompts": ("user",),
    "conversation": ("system", "user", "assistant", CONTEXT, "tool"),
}
