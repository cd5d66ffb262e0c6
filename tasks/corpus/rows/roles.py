"""Roles of the turns that a step reads."""

from __future__ import annotations

from typing import Literal

Of = Literal["answers", "prompts", "conversation"]

ROLES: dict[Of, tuple[str, ...]] = {
    "answers": ("assistant",),
    "prompts": ("user",),
    "conversation": ("system", "user", "assistant", "tool"),
}
