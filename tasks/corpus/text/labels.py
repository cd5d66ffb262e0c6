"""Names of labels: which spellings are one label, and which label a text names.

A label is an identity. Only case, white space, invisible characters and what joins words (``Cancel-Order``,
``cancel order``, ``cancel_order``) make no difference; signs, symbols, digits and accents do: ``-1`` and ``1``, ``C``,
``C++`` and ``C#``, ``no`` and ``nö`` are different labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

# Invisible at any place: zero-width space, soft hyphen, byte order mark, variation selectors of emoji.
_INVISIBLE = dict.fromkeys((0x200B, 0xAD, 0xFEFF, 0xFE0E, 0xFE0F))
_SPACES = re.compile(r"\s+")
# Of one letter a hyphen may be a minus, of a digit a sign: both stay.
_WORD_JOINTS = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
_JOINTS = re.compile(r"(?<=\w)[\s_]+(?=\w)")
# What writers disagree about: joints of words, and punctuation at the end.
_LOOSE_JOINTS = re.compile(r"(?<=[^\W\d_])[\s_\-/.'’]+(?=\w)|(?<=\w)[\s_\-/.'’]+(?=[^\W\d_])")
_LOOSE_ENDS = re.compile(r"^[\s_\"'“”‘’]+|[\s_.,;:!\"'“”‘’]+$")
_ENDS = " \t\r\n.,;:!?"
_PAIRS = frozenset({'""', "''", "``", "**", "__", "“”", "‘’", "«»", "()", "[]", "{}", "<>"})


def normalise_label(label: str) -> str:
    """Lower case, words joined by underscores; signs, symbols, digits and accents as they are."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", label.translate(_INVISIBLE)).lower())
    spaced = _SPACES.sub(" ", folded).strip()
    return _JOINTS.sub("_", _WORD_JOINTS.sub("_", spaced))


def find_label_fault(label: str) -> str:
    """Why a text cannot be the name of a class; empty where it can."""
    if not label.strip():
        return "is blank"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in label):
        return "has a control character or a line break"
    return ""


def find_alike(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different normalised labels that may be one, such as ``e-mail`` and ``email``, each group sorted.

    They differ in how words are joined, in punctuation at an end, or in forms of one character (full width). Whether
    they are one label, only a person knows.
    """
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for label in labels:
        folded = unicodedata.normalize("NFKC", label).casefold()
        key = _LOOSE_ENDS.sub("", _LOOSE_JOINTS.sub("", folded))
        if key:
            groups[key].add(label)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


class LabelReader:
    """Finds the label that a text names and nothing else.

    A text names a label when it is that label: exactly, else in another spelling (`normalise_label`), else without
    quotes, emphasis or punctuation around it. Where two labels fit equally well, it names none.

    Args:
        labels: The labels.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._spellings = [(fold, _index(labels, fold)) for fold in _FOLDS]

    def read(self, text: str) -> str | None:
        """The label, or None."""
        for candidate in (text, trim(text)):
            for fold, spellings in self._spellings:
                found = spellings.get(fold(candidate))
                if found is not None:
                    return found
        return None


def trim(text: str) -> str:
    """The text without quotes, brackets or emphasis around it and without punctuation at its end."""
    while True:
        shorter = text.strip().rstrip(_ENDS)
        if len(shorter) > 2 and shorter[0] + shorter[-1] in _PAIRS:
            shorter = shorter[1:-1]
        if shorter == text:
            return text
        text = shorter


def _index(labels: Sequence[str], fold: Callable[[str], str]) -> dict[str, str]:
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for label in labels:
        groups[fold(label)].add(label)
    return {key: next(iter(group)) for key, group in groups.items() if key and len(group) == 1}


# From the strictest on.
_FOLDS: tuple[Callable[[str], str], ...] = (str.strip, normalise_label)
