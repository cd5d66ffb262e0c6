"""The format of an instruction: a text, or an object with all requested texts.

Example: ``{"instruction": "Where is my parcel?", "label": "track_parcel"}`` is accepted; ``{"question": 1}`` is
refused: ``no "instruction"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft


def read_instruction(item: Any, required: Sequence[str], draft: Draft) -> Draft:
    """The draft with the instruction in it, or refused.

    Args:
        item: The parsed JSON value.
        required: Required names besides ``instruction``: ``label``, and the fields of checks.
        draft: The draft without the instruction.
    """
    if isinstance(item, str) and not required:
        item = {"instruction": item}
    if not isinstance(item, Mapping):
        return draft.refuse("instructions", "wrong schema: not an object")
    texts: dict[str, str] = {}
    for name in ("instruction", *required):
        value = item.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            return draft.refuse("instructions", f'wrong schema: no "{name}"')
        if not value.isprintable() and not is_text(value):
            return draft.refuse("instructions", "wrong schema: not text")
        texts[name] = value.strip()
    instruction, label = texts.pop("instruction"), texts.pop("label", None)
    return replace(draft, instruction=instruction, label=label, fields=texts)


def is_text(value: str) -> bool:
    """Whether a text has neither lone surrogates nor control characters besides tabs and line ends."""
    return not any(0xD800 <= ord(c) < 0xE000 or (ord(c) < 32 and c not in "\t\n\r") for c in value)
