"""Parsing of JSON as models write it: after a sentence, in a code fence, with a trailing comma."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_COMMA = re.compile(r",(?=\s*[\]}])")
_ITEM = re.compile(r"^\s*(?:\d{1,3}[.):]|[-*•])\s+(.+)$")


class Unusable(Exception):
    """An answer that cannot be parsed; the message is the reason."""


def strip_fence(text: str) -> str:
    """The content of the first code fence, or the text itself."""
    found = _FENCE.search(text)
    return found[1] if found else text


def read_json(text: str) -> Any:
    """The first JSON array or object of an answer.

    Raises:
        Unusable: There is none.
    """
    text = strip_fence(text)
    decoder = json.JSONDecoder(strict=False)
    for attempt in (text, _COMMA.sub("", text)):
        for start in (found.start() for found in re.finditer(r"[\[{]", attempt)):
            try:
                value, _ = decoder.raw_decode(attempt, start)
            except (ValueError, RecursionError):
                # Only the first bracket counts: a part of a broken list is not the list.
                break
            return value
    raise Unusable("bad JSON")


def read_list(text: str, plain: bool = False) -> list[Any]:
    """The items of an answer: of a JSON array, of the only list in a JSON object or, where allowed, of numbered or
    bulleted lines.

    Args:
        text: The answer.
        plain: Whether numbered or bulleted lines are accepted.

    Raises:
        Unusable: There are none.
    """
    try:
        value = read_json(text)
    except Unusable:
        if plain and (lines := [found[1].strip() for line in text.splitlines() if (found := _ITEM.match(line))]):
            return lines
        raise
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if len(lists) == 1 else [value]
    if not value:
        raise Unusable("an empty list")
    return list(value)
