"""Words of any script: runs of letters and digits, and each character of a script written without spaces.

A character stands for a word in Chinese, Japanese (kana included), Thai, Lao, Burmese and Khmer, as is usual where no
dictionary cuts them. Combining marks, such as the vowels of Hindi and Thai or the accents of decomposed letters, belong
to the letter before them. `word_pattern` and ``PIECE`` are regular expressions of a word without and with its
punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
PIECE = rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+"
# Marks that change how a symbol is drawn, such as the keycap of an emoji; they make no word of it.
_SYMBOL_MARKS = frozenset((*range(0x20D0, 0x2100), *range(0xFE00, 0xFE10)))

_QUIET = str.maketrans("", "", ".,!?;:'\"“”‘’…")


def find_words(text: str) -> list[str]:
    """The words in order, without punctuation, in lower case."""
    return _compile(word_pattern()).findall(text.casefold())


def find_units(text: str) -> list[str]:
    """The words in order, in lower case; of a text without any, such as an emoji, the characters."""
    return find_words(text) or list("".join(text.split()))


def split_words(text: str) -> list[str]:
    """What stands between white space, in order, with its punctuation."""
    return text.split() if text.isascii() else _compile(PIECE).findall(text)


def split_terms(text: str) -> list[str]:
    """Lower-case words; everything with a digit is the same word ``0``, as order numbers are never seen twice.

    A text without words, such as an emoji, is split into its characters.
    """
    plain = text.lower() if text.isascii() else unicodedata.normalize("NFC", text).lower()
    terms = ["0" if _compile(r"\d").search(word) else word for word in _compile(_term_pattern()).findall(plain)]
    return terms or list("".join(plain.split()))


def find_word_edges(text: str) -> tuple[bool, bool]:
    """Whether a text begins, and whether it ends, with a word of a script that separates words by spaces."""
    word = _spaced_word()
    return bool(_compile(word).match(text)), bool(_compile(rf"{word}\Z").search(text))


def is_unspaced(text: str) -> bool:
    """Whether a text is mainly in scripts written without spaces."""
    return not text.isascii() and len(split_words(text)) > 2 * len(text.split())


def fold_text(text: str) -> str:
    """Lower case, single spaces, without sentence punctuation."""
    return " ".join(text.casefold().translate(_QUIET).split())


@cache
def word_pattern() -> str:
    """Regular expression of a word without its punctuation."""
    return rf"[{_UNSPACED}][{_list_marks()}]*|{_spaced_word()}"


@cache
def _term_pattern() -> str:
    return rf"[{_UNSPACED}][{_list_marks()}]*|{_spaced_word()}(?:['’]{_spaced_word()})*+"


def _spaced_word() -> str:
    letter = rf"[^\W{_UNSPACED}]"
    # Possessive, because what could be given back is kept in memory: 130 bytes a letter of a word of 16 MiB.
    return rf"{letter}(?:{letter}++|[{_list_marks()}]++)*+"


@cache
def _list_marks() -> str:
    """The combining marks as ranges of a character class."""
    marks = [code for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M"]
    ranges: list[list[int]] = []
    for code in marks:
        if code in _SYMBOL_MARKS:
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(chr(first) + (f"-{chr(end)}" if end > first else "") for first, end in ranges)


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    # Takes some milliseconds with these ranges, which reading params should not cost.
    return re.compile(pattern)
