"""What a finder finds, and how a text is read so that spelling does not hide it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["email", "phone", "iban", "card", "ip", "national_id", "name", "place"]
PlainKind = Literal["email", "phone", "iban", "card", "ip"]
USUAL: tuple[PlainKind, ...] = ("email", "phone", "iban", "card")


class Found(NamedTuple):
    """Personal data at ``text[start:end]``."""

    start: int
    end: int
    kind: Kind


class Finder(Protocol):
    """Finds personal data."""

    def screen(self, texts: pa.Array) -> pa.Array:
        """Which texts are worth a look: all that hold something, and some others."""
        ...

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """For each text what was found, in order and without overlap."""
        ...


UNSEEN = "\u200b"


class _Plain(dict[int, str]):
    """Characters to plain ones of the same meaning: digits, letters, spaces and dashes of other scripts and widths."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Nd":
            plain = str(unicodedata.digit(character))
        elif category in ("Pd", "Zs"):
            plain = "-" if category == "Pd" else " "
        elif category[0] in "LPS":
            plain = unicodedata.normalize("NFKC", character)
        else:
            plain = character
        self[code] = plain if len(plain) == 1 and plain.isascii() else character
        return self[code]


_PLAIN = _Plain({0x2212: "-"})
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\[nrtbf]|&#64;|&#x40;|&commat;|%40")
# Not in plain spelling.
ODD = r"[^\x00-\x7f]|[\\&%]|  "
_ODD = re.compile(ODD)
_PASSED_OVER = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]|(?<= ) ")


def read_plainly(text: str, find: Callable[[str], list[Found]]) -> list[Found]:
    """Find in the text as a person reads it, and say where that stands in the text as it is.

    Full-width and other digits, odd spaces and dashes are read as the plain ones, escapes of JSON, and of @ in HTML
    and addresses, as what they stand for, several spaces as one, and characters that cannot be seen are passed over.
    """
    if not _ODD.search(text):
        return find(text)
    plain = _ESCAPE.sub(_unescape, text)
    if not plain.isascii():
        plain = plain.translate(_PLAIN)
    passed = {match.start() for match in _PASSED_OVER.finditer(plain)}
    if not passed:
        return find(plain)
    places = [place for place in range(len(plain)) if place not in passed]
    seen = find("".join(plain[place] for place in places))
    places.append(len(text))
    return [Found(places[found.start], places[found.end], found.kind) for found in seen]


def _unescape(match: re.Match[str]) -> str:
    code, escape = match.group(1), match.group()
    if code and 0xD800 <= int(code, 16) <= 0xDFFF:
        return UNSEEN * len(escape)
    character = chr(int(code, 16)) if code else " " if escape.startswith("\\") else "@"
    # As long as before, so that places stay.
    return character + UNSEEN * (len(escape) - 1)


def put(text: str, found: Sequence[Found], word: Callable[[str, Kind], str]) -> str:
    """The text with other words where personal data stood.

    Args:
        text: Any.
        found: In order and without overlap.
        word: The personal data and its kind to what stands there instead.
    """
    parts, end = [], 0
    for start, stop, kind in found:
        parts += [text[end:start], word(text[start:stop], kind)]
        end = stop
    return "".join([*parts, text[end:]]) if parts else text
