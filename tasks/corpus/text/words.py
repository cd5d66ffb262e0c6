"""Words of any script: runs of letters and digits, and each character of a script written without spaces.

A character stands for a word in Chinese, Japanese (kana included), Thai, Lao, Burmese and Khmer, as is usual where no
dictionary cuts them. ``WORD`` and ``PIECE`` are regular expressions of a word without and with its punctuation.
"""

from __future__ import annotations

import re
from functools import cache

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+"
PIECE = rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+"
TERM = r"\w+(?:['’]\w+)*"

_QUIET = str.maketrans("", "", ".,!?;:'\"“”‘’…")


def find_words(text: str) -> list[str]:
    """The words in order, without punctuation, in lower case."""
    return _compile(WORD).findall(text.casefold())


def split_words(text: str) -> list[str]:
    """What stands between white space, in order, with its punctuation."""
    return text.split() if text.isascii() else _compile(PIECE).findall(text)


def split_terms(text: str) -> list[str]:
    """Lower-case words; everything with a digit is the same word ``0``, as order numbers are never seen twice."""
    return ["0" if _compile(r"\d").search(word) else word for word in _compile(TERM).findall(text.lower())]


def is_unspaced(text: str) -> bool:
    """Whether a text is mainly in scripts written without spaces."""
    return not text.isascii() and len(split_words(text)) > 2 * len(text.split())


def fold_text(text: str) -> str:
    """Lower case, single spaces, without sentence punctuation."""
    return " ".join(text.casefold().translate(_QUIET).split())


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    # Takes some milliseconds with these ranges, which reading params should not cost.
    return re.compile(pattern)
