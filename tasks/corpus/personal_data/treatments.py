"""What stands where personal data stood: a word, or a keyed pseudonym.

Example:
    ``Write to ann@example.org`` becomes ``Write to <email>`` (`redact`) or, by `Pseudonyms`,
    ``Write to <email:kbnadjhgpmoc>``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Protocol

from tasks.corpus.personal_data.found import Found, Kind, put

# A text with what was found in it.
Searched = tuple[str, Sequence[Found]]
LETTERS = 12
# Letters instead of digits, since twelve digits are also a phone number.
_AS_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


class Treatment(Protocol):
    """Rewrites all texts of one row together."""

    def __call__(self, row: Sequence[Searched]) -> list[str]: ...


def redact(row: Sequence[Searched]) -> list[str]:
    """Each value as its kind."""
    return [put(text, found, lambda _, kind: f"<{kind}>") for text, found in row]


class Pseudonyms:
    """Each value as its kind and 48 bits of its HMAC-SHA-256 (RFC 2104), the same in every row.

    Without the key nobody can tell which value it was, not even by trying all phone numbers.

    Args:
        key: Secret.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    def __call__(self, row: Sequence[Searched]) -> list[str]:
        return [put(text, found, self.name) for text, found in row]

    def name(self, value: str, kind: Kind) -> str:
        signature = sign(self.key, f"{kind}:{plain_value(value, kind)}")
        return f"<{kind}:{signature[:LETTERS].translate(_AS_LETTERS)}>"


def sign(key: bytes, text: str) -> str:
    """HMAC-SHA-256, 64 hex digits."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def plain_value(value: str, kind: Kind) -> str:
    """A value without the liberties of its spelling, so that two spellings of one value are the same."""
    if kind == "phone":
        return re.sub(r"\D", "", value)
    if kind in ("iban", "card", "national_id"):
        return re.sub(r"[\W_]", "", value).upper()
    return " ".join(value.casefold().split())
