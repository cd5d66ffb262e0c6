"""Words of a text that may be edited, and one typing error inside a word.

Typing errors are neighbouring keys, and letters that are swapped, missing or doubled; the first and last letter of a
word are kept, so that it remains readable (Belinkov and Bisk 2018, https://arxiv.org/abs/1711.02173).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ANY = re.compile(r"[^\W_]+")
# Addresses, code, placeholders of personal data in brackets, and words with digits: they are never changed.
PROTECTED = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+|```.*?```|`[^`\n]+`|\[[^\]\n]{1,40}\]|<[^>\n]{1,40}>|\{[^}\n]{1,40}\}|\w*\d\w*",
    re.DOTALL,
)

# Shorter words are left unchanged.
MIN_LETTERS = 4
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    key: "".join(
        _KEYS[other][place + step]
        for other, step in ((line, -1), (line, 1), (line - 1, 0), (line + 1, 0))
        if 0 <= other < len(_KEYS) and 0 <= place + step < len(_KEYS[other])
    )
    for line, keys in enumerate(_KEYS)
    for place, key in enumerate(keys)
}


def list_words(prompt: str, answer: str, min_letters: int) -> list[tuple[int, int]]:
    """Start and end of the words that may be changed.

    Words are excluded that have fewer than ``min_letters`` letters, are in capitals, contain digits, stand in
    addresses, code or brackets, or also occur in the answer, which may refer to them.
    """
    protected = [match.span() for match in PROTECTED.finditer(prompt)]
    repeated = {word.casefold() for word in _ANY.findall(answer)}
    return [
        match.span()
        for match in WORD.finditer(prompt)
        if match.end() - match.start() >= min_letters
        and not match.group().isupper()
        and match.group().casefold() not in repeated
        and not any(start < match.end() and match.start() < end for start, end in protected)
    ]


def replace_spans(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """The text with the spans replaced by words."""
    for (start, end), word in sorted(zip(spans, words, strict=True), reverse=True):
        text = text[:start] + word + text[end:]
    return text


def mistype(word: str, rng: random.Random) -> str:
    """One typing error inside a word of at least four letters."""
    place = rng.randrange(1, len(word) - 1)
    kinds = ["missing", "doubled", "key"]
    swaps = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
    kind = rng.choice([*kinds, "swapped"] if swaps else kinds)
    letter = word[place]
    if kind == "swapped":
        place = rng.choice(swaps)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == "missing":
        return word[:place] + word[place + 1 :]
    neighbours = NEIGHBOURS.get(letter.lower(), "")
    if kind == "key" and neighbours:
        other = rng.choice(neighbours)
        return word[:place] + (other.upper() if letter.isupper() else other) + word[place + 1 :]
    return word[:place] + letter + word[place:]
