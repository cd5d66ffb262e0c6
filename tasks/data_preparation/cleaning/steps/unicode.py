r"""Broken Unicode repaired with ftfy (Speer 2019, https://doi.org/10.5281/zenodo.2591652), then NFC.

Good for: text that was decoded wrongly somewhere on its way (``cafÃ©``). Curly quotes, ligatures, full-width letters
and emoji are kept: they were typed on purpose. A repair is accepted only if it lowers ftfy's badness score of the
line by at least three quarters, so that unusual but correct text is kept.

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

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

REPLACEMENT_CHARACTER = "\ufffd"
CANDIDATES = r"[^\x00-\x7f]"

# U+0085 among spaces is Unicode's next line, not the ellipsis of Windows-1252 read as Latin-1.
_NEXT_LINE = re.compile(r"(?<!\S)\x85(?!\S)")


class Unicode(Section):
    """Repairs mojibake and composes characters (NFC)."""

    name: Literal["unicode"] = "unicode"
    drop_lost: bool = Field(
        default=True, description="drop rows with U+FFFD, which replaces a character that could not be decoded"
    )

    def clean(self, table: pa.Table) -> Cleaned:
        import numpy as np
        import pyarrow.compute as pc

        from tasks.corpus.rows.rows import column_messages, turn_lengths
        from tasks.corpus.rows.texts import rewrite_texts

        repaired = rewrite_texts(table, CANDIDATES, make_repair())
        if not self.drop_lost:
            return repaired
        messages = column_messages(repaired.table)
        lost = pc.match_substring(messages.flatten().field("content"), REPLACEMENT_CHARACTER)
        row_of_turn = np.repeat(np.arange(len(messages)), turn_lengths(messages))
        reasons: list[str | None] = [None] * len(messages)
        for row in row_of_turn[np.asarray(lost)].tolist():
            reasons[row] = "lost characters (U+FFFD)"
        return replace(repaired, reasons=reasons)


def make_repair() -> Callable[[str], str]:
    """The function that repairs a text; controls, line ends and entities have steps of their own."""
    from ftfy import fix_encoding
    from ftfy.badness import badness, is_bad

    def repair_line(line: str) -> str:
        if line.isascii():
            return line
        fixed = fix_encoding(line) if is_bad(line) and not _NEXT_LINE.search(line) else line
        if fixed != line and 4 * badness(fixed) > badness(line):
            fixed = line
        return unicodedata.normalize("NFC", fixed)

    return lambda text: "\n".join(repair_line(line) for line in text.split("\n"))
