"""Whether a question lists its choices itself, and how.

Example:
    "Which? A) Rome B) Paris" lists ``["Paris", "Rome"]`` as ``B) Paris`` and ``A) Rome``; "Options: yes, no" lists
    ``["yes", "no"]`` as ``yes`` and ``no``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

# A letter or number of a choice, as A. A) (A) [A] A: 1. 1) (1) or **A.**; or the bullet of a line.
_LABEL = r"[(\[][A-Za-z0-9]{1,2}[)\]]|\*{0,2}[A-Za-z0-9]{1,2}\s?[.):]\*{0,2}|[A-Za-z0-9]{1,2}\s-"
_BULLET = r"[-*\u2022]"
_HEADING = re.compile(r"\b(?:options|choices|possible answers|candidates)\s*(?:are)?\s*:", re.IGNORECASE)
_BETWEEN = re.compile(r"(?:[\s,;/|.?!'\"\u2022()\[\]*-]|\b(?:and|or)\b)*", re.IGNORECASE)


def name_letter(number: int) -> str:
    """The letter of a choice, counted from 0; a number beyond Z."""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


def label_choices(choices: Sequence[str]) -> list[str]:
    """The choices with their letters, ``A. ...``, unless they have letters or numbers of their own."""
    own = [re.match(rf"\s*({_LABEL})\s+\S", text) for text in choices]
    if all(own):
        marks = [re.sub(r"\W", "", match[1]).upper() for match in own if match]
        numbers = range(len(choices))
        if marks in ([name_letter(n) for n in numbers], [str(n + 1) for n in numbers], [str(n) for n in numbers]):
            return list(choices)
    return [f"{name_letter(number)}. {text}" for number, text in enumerate(choices)]


def find_listed(question: str, choices: Sequence[str]) -> list[str] | None:
    """The choices as the question lists them, with its letters or numbers; None unless it lists every one of them."""
    texts = [r"\s+".join(map(re.escape, text.split())) for text in choices]
    if not all(texts):
        return None
    labels: list[str] = []
    for text in texts:
        found = re.search(rf"(?:^|[\s,;|])({_LABEL})\s*{text}(?!\w)", question)
        if found is None:
            break
        labels.append(found[1])
    if len(set(labels)) == len(choices):
        return [f"{label} {text}" for label, text in zip(labels, choices, strict=True)]
    if all(re.search(rf"^\s*{_BULLET}\s*{text}\s*$", question, re.MULTILINE) for text in texts):
        return list(choices)
    heading = _HEADING.search(question)
    if heading is None:
        return None
    rest, found_all = question[heading.end() :], True
    for text in sorted(texts, key=len, reverse=True):
        rest, count = re.subn(rf"(?<!\w){text}(?!\w)", " ", rest, count=1)
        found_all = found_all and count == 1
    return list(choices) if found_all and _BETWEEN.fullmatch(rest) else None
