"""Code inside of texts."""

from __future__ import annotations

import re
from collections.abc import Callable

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


def outside_code(text: str, repair: Callable[[str], str]) -> str:
    """Apply a function to what stands outside of code fences and inline code."""
    parts, end = [], 0
    for match in _CODE.finditer(text):
        parts += [repair(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*parts, repair(text[end:])]) if parts else repair(text)
