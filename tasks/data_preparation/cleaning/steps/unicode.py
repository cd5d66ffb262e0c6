r"""Broken Unicode repaired with ftfy (Speer 2019, https://doi.org/10.5281/zenodo.2591652), then letters composed.

Good for: text that was decoded wrongly somewhere on its way (``cafÃ©``). Curly quotes, ligatures, full-width letters
and emoji are kept: they were typed on purpose. A repair is accepted only if it lowers ftfy's badness score of the
line by at least three quarters, so that unusual but correct text is kept. A letter and the accents behind it become one
character (NFC), outside of code; the ohm sign, the ideographs of compatibility and other characters that NFC would
replace stay. Conversations about encodings are kept as they are: their broken text is what they are about.

Example:
    ``Your cafÃ© order`` becomes ``Your café order``; a row with ``caf\ufffd`` is dropped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.code import is_code, outside_code, without_code

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

REPLACEMENT_CHARACTER = "\ufffd"
CANDIDATES = r"[^\x00-\x7f]"
ABOUT_ENCODINGS = (
    r"(?i)mojibake|unicode|utf-?\d|latin-?1\b|iso-?8859|windows-?125|\bcp-?\d{3,4}\b|\b(en|de)cod(e|es|ed|er|ing)\b|"
    r"charset|codepoint|code point|\bU\+[0-9a-f]{4}"
)

# U+0085 among spaces is Unicode's next line, not the ellipsis of Windows-1252 read as Latin-1.
_NEXT_LINE = re.compile(r"(?<!\S)\x85(?!\S)")
# A letter with accents, a kana with its voicing, an Arabic letter with its hamza, the parts of a Korean syllable.
_DECOMPOSED = re.compile(
    "[^\\W\\d_][\u0300-\u036f\u0653-\u0655\u3099\u309a]+|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?"
)


class Unicode(Section):
    """Repairs mojibake and composes letters."""

    name: Literal["unicode"] = "unicode"
    drop_lost: bool = Field(
        default=True, description="drop rows with U+FFFD, which replaces a character that could not be decoded"
    )

    def clean(self, table: pa.Table) -> Cleaned:
        import numpy as np
        import pyarrow.compute as pc

        from tasks.corpus.rows.rows import column_messages, row_of_turn
        from tasks.corpus.rows.texts import find_mentions, rewrite_texts

        about = find_mentions(table, ABOUT_ENCODINGS)
        repaired = rewrite_texts(table, CANDIDATES, make_repair(), rows=~about)
        if not self.drop_lost:
            return repaired
        messages = column_messages(repaired.table)
        lost = pc.match_substring(messages.flatten().field("content"), REPLACEMENT_CHARACTER)
        reasons: list[str | None] = [None] * len(messages)
        for row in row_of_turn(messages)[np.asarray(lost)].tolist():
            reasons[row] = None if about[row] else "lost characters (U+FFFD)"
        return replace(repaired, reasons=reasons)


def make_repair() -> Callable[[str], str]:
    """The function that repairs a text; controls, line ends and entities have steps of their own."""
    from ftfy import fix_encoding
    from ftfy.badness import badness, is_bad

    def repair_line(line: str) -> str:
        if line.isascii():
            return line
        fixed = fix_encoding(line) if is_bad(line) and not _NEXT_LINE.search(line) else line
        return line if fixed != line and 4 * badness(fixed) > badness(line) else fixed

    def repair(text: str) -> str:
        repaired = "\n".join(map(repair_line, text.split("\n")))
        return repaired if is_composed(repaired) else outside_code(repaired, compose)

    def is_composed(text: str) -> bool:
        return _DECOMPOSED.search(text) is None or is_code(without_code(text))

    return repair


def compose(text: str) -> str:
    """The text with each letter and the marks behind it as one character, where there is one."""
    return _DECOMPOSED.sub(lambda match: unicodedata.normalize("NFC", match.group()), text)
