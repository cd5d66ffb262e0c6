"""What differs between two texts, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

# Characters of scripts written without spaces stand alone, as in `tasks.corpus.text.words`.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"\s+|[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+|[^\w\s]")
# Comparing takes up to the product of both lengths.
MAXIMUM_TOKENS = 2_000

# Whether the other text lacks it, and the text.
Part = tuple[bool, str]


def diff_words(before: str, after: str) -> tuple[list[Part], list[Part]]:
    """Both texts in parts, each marked where the other text has not the same there.

    Args:
        before: The old text.
        after: The new text.

    Returns:
        Parts of each, which together are the text; one part, all marked, where a text is very long.

    Example:
        >>> diff_words("Your parcel left today.", "Your order left today.")
        ([(False, 'Your '), (True, 'parcel'), (False, ' left today.')], [(False, 'Your '), (True, 'order'), \
(False, ' left today.')])
    """
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    if len(old) > MAXIMUM_TOKENS or len(new) > MAXIMUM_TOKENS:
        return [(before != after, before)], [(before != after, after)]
    parts: tuple[list[Part], list[Part]] = [], []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for found, words in zip(parts, (old[a:b], new[c:d]), strict=True):
            if words:
                found.append((kind != "equal", "".join(words)))
    return _join(parts[0]), _join(parts[1])


def _join(parts: list[Part]) -> list[Part]:
    """Parts in which a space between two marked words is marked too."""
    joined: list[Part] = []
    for place, (changed, text) in enumerate(parts):
        between = text.isspace() and 0 < place < len(parts) - 1 and parts[place - 1][0] and parts[place + 1][0]
        if joined and joined[-1][0] and (changed or between):
            joined[-1] = (True, joined[-1][1] + text)
        else:
            joined.append((changed, text))
    return joined
