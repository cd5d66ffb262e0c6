"""An instruction as the teacher gave it: a text, or an object with all the texts that were asked for.

Example: of ``{"instruction": "Where is my parcel?", "label": "track_parcel"}`` the draft; of ``{"question": 1}`` the
reason ``no "instruction"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft


def read_instruction(item: Any, wanted: Sequence[str], draft: Draft) -> Draft:
    """The draft with the instruction in it, or refused.

    Args:
        item: As parsed.
        wanted: Names besides ``instruction`` that must be there: ``label``, and the fields of checks.
        draft: What is known of it so far.
    """
    if isinstance(item, str) and not wanted:
        item = {"instruction": item}
    if not isinstance(item, Mapping):
        return draft.refuse("instructions", "wrong schema: no object")
    texts: dict[str, str] = {}
    for name in ("instruction", *wanted):
        value = item.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            return draft.refuse("instructions", f'wrong schema: no "{name}"')
        if not value.isprintable() and not is_text(value):
            return draft.refuse("instructions", "wrong schema: no text")
        texts[name] = value.strip()
    instruction, label = texts.pop("instruction"), texts.pop("label", None)
    return replace(draft, instruction=instruction, label=label, fields=texts)


def is_text(value: str) -> bool:
    """Whether a text holds neither halves of surrogate pairs nor control characters besides tabs and line ends."""
    return not any(0xD800 <= ord(c) < 0xE000 or (ord(c) < 32 and c not in "\t\n\r") for c in value)
