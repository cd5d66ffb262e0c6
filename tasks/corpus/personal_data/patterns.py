"""Personal data by pattern and checksum: e-mail addresses, phone numbers, IBANs, payment cards, IP addresses.

Good for: the plainest identifiers, offline and fast. IBANs must have their country's structure and pass the check of
ISO 13616 (mod 97), as python-stdnum has them from the SWIFT registry; cards the Luhn check and, without the word
"card" before them, a known issuer's prefix and length (ISO/IEC 7812), so that order numbers stay.

It does not cover names, postal addresses, dates of birth, national ids, account numbers other than IBANs, user names,
identifiers written in words or split over lines or turns, and phone numbers without a country code, separators or a
word such as "call" before them, in any of a dozen languages.

What looks like a number of another kind is left alone: counts and other series (``01 02 03 04 05``), rows of a table,
terms of a sum, what stands behind a comparison or a word such as "order" or "id"; so is the account of a git or ssh
address.

``benchmarks/pii.py`` measures both sides. Of libphonenumber's example numbers of 245 countries and territories it
finds 99% with a country code, of those in national spelling 97% behind a word such as "call" and 43% standing alone.
In 22 million characters of Python it finds two phone numbers, both real ones; in 7,000 sums told as stories none.

Example:
    ``Write to ann@example.org or call +44 20 7946 0958`` holds an ``email`` and a ``phone``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.personal_data.found import ODD, USUAL, Found, PlainKind

if TYPE_CHECKING:
    import pyarrow as pa

SUSPECT = r"[@＠﹫]|&#64;|&#x40;|&commat;|%40|\\u[0-9a-fA-F]{4}|\p{Nd}(?:[^\p{Nd}A-Za-z\n]{0,3}[\p{Nd}A-Za-z]){5}"
SUSPECT_IP = r"\p{Nd}\.\p{Nd}{1,3}\.\p{Nd}|:[0-9A-Fa-f]{0,4}:"

# What every find in plain spelling holds: six digits, fewer before an extension, or the beginning of an IBAN.
LIKELY = r"@|\d(?:[ .()-]{0,3}\d){5}|\d(?:[ .()-]{0,3}\d){3} ?(?:x|ext\.?) ?\d|[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11}"


class Patterns(Section):
    """Regular expressions with checksums."""

    name: Literal["patterns"] = "patterns"
    kinds: tuple[PlainKind, ...] = Field(default=USUAL, min_length=1, description="what is looked for")

    def screen(self, texts: pa.Array) -> pa.Array:
        import pyarrow.compute as pc

        likely, suspect = (f"{each}|{SUSPECT_IP}" if "ip" in self.kinds else each for each in (LIKELY, SUSPECT))
        odd = pc.and_(pc.match_substring_regex(texts, ODD), pc.match_substring_regex(texts, suspect))
        return pc.or_(pc.match_substring_regex(texts, likely), odd)

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        from tasks.corpus.personal_data.identifiers import find_plain

        return [find_plain(text, self.kinds) for text in texts]
