"""Whitespace: unusual spaces, trailing blanks, runs of spaces and empty lines.

Only prose is set anew. A text that may be code, data, a table, a formula or verse (`tasks.corpus.text.code.is_prose`)
keeps its spacing and the indentation of its first line; it loses empty lines before it, blanks behind it, and carriage
returns.

Example:
    ``  Where   is it?  `` becomes ``Where is it?``; ``    for n in numbers:`` with a line below it stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section
from tasks.corpus.text.code import has_indentation, is_prose, outside_code, without_code
from tasks.corpus.text.words import is_unspaced

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

CANDIDATES = r"^\s|\s$|  |[ \t]\n|\n\n\n|\r|[\x{a0}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"

_UNUSUAL_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_SPACE_BESIDES_IDEOGRAPHIC = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_LINE_END = re.compile("\r\n?")
_SEPARATOR = re.compile("[\u2028\u2029]")
_LEADING_LINES = re.compile(r"\A(?:[^\S\n]*+\n)+")
# Tried only where a run of blanks begins: from every blank of a run it would take the square of the time.
_TRAILING = re.compile(r"(?<![ \t])[ \t]+\n")
_RUN = re.compile(r" {2,}")
_EMPTY_LINES = re.compile(r"\n{3,}")


class Whitespace(Section):
    """Normalizes the white space of prose."""

    name: Literal["whitespace"] = "whitespace"

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import rewrite_texts

        return rewrite_texts(table, CANDIDATES, normalize_spaces)


def normalize_spaces(text: str) -> str:
    """The text with normalized white space."""
    plain = _LEADING_LINES.sub("", _LINE_END.sub("\n", text)).rstrip()
    bare = plain.lstrip()
    indentation = plain[: len(plain) - len(bare)] if has_indentation(plain) else ""
    return indentation + (outside_code(bare, _normalize_prose) if is_prose(without_code(bare)) else bare)


def _normalize_prose(text: str) -> str:
    # The ideographic space indents paragraphs in Chinese and Japanese.
    spaced = (_SPACE_BESIDES_IDEOGRAPHIC if is_unspaced(text) else _UNUSUAL_SPACE).sub(" ", text)
    return _EMPTY_LINES.sub("\n\n", _RUN.sub(" ", _TRAILING.sub("\n", _SEPARATOR.sub("\n", spaced))))
