"""Words of any script: runs of letters and digits, and each character of a script written without spaces.

A character stands for a word in Chinese, Japanese (kana included), Thai, Lao, Burmese and Khmer, as is usual where no
dictionary cuts them. ``WORD`` and ``PIECE`` are regular expressions of a word without and with its punctuation.
"""

from __future__ import annotations

import re

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+"
PIECE = rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+"

_WORD = re.compile(WORD)
_TERM = re.compile(r"\w+(?:['’]\w+)*")
_DIGIT = re.compile(r"\d")
_PIECE = re.compile(PIECE)


def find_words(text: str) -> list[str]:
    """The words in order, without punctuation, in lower case."""
    return _WORD.findall(text.casefold())


def split_words(text: str) -> list[str]:
    """What stands between white space, in order, with its punctuation."""
    return text.split() if text.isascii() else _PIECE.findall(text)


def split_terms(text: str) -> list[str]:
    """Lower-case words; everything with a digit is the same word ``0``, as order numbers are never seen twice."""
    return ["0" if _DIGIT.search(word) else word for word in _TERM.findall(text.lower())]


def is_unspaced(text: str) -> bool:
    """Whether a text is mainly in scripts written without spaces."""
    return not text.isascii() and len(split_words(text)) > 2 * len(text.split())
