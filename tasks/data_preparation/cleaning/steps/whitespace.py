"""Whitespace: unusual spaces, trailing blanks, runs of spaces and empty lines.

Indented lines and code keep their inner spacing.

Example:
    ``  Where   is it?  `` becomes ``Where is it?``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section
from tasks.corpus.text.code import outside_code

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

CANDIDATES = (
    r"^\s|\s$|[ \t]{2}|[ \t]\n|\n\n\n|\r|[\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
)

_UNUSUAL_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")
_TRAILING = re.compile(r"[ \t]+\n")
_RUN = re.compile(r"[ \t]{2,}")
_EMPTY_LINES = re.compile(r"\n{3,}")


class Whitespace(Section):
    """Normalizes white space."""

    name: Literal["whitespace"] = "whitespace"

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import rewrite_texts

        return rewrite_texts(table, CANDIDATES, normalize_spaces)


def normalize_spaces(text: str) -> str:
    """The text with normalized white space."""
    plain = _LINE_END.sub("\n", text).strip()
    return outside_code(plain, _normalize_spaces).strip()


def _normalize_spaces(text: str) -> str:
    spaced = _TRAILING.sub("\n", _UNUSUAL_SPACE.sub(" ", text))
    # The first line begins the text or continues a line with code, so its leading blanks are no indentation.
    first, *others = spaced.split("\n")
    lines = [_RUN.sub(" ", first), *(line if line[:1] in (" ", "\t") else _RUN.sub(" ", line) for line in others)]
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines))
