r"""Control characters, terminal escapes and invisible characters.

Good for: text pasted from terminals, spreadsheets and PDF files, and text that hides instructions in Unicode's tag
characters. Tabs and line ends are kept, and so are the joiners and direction marks that emoji, Persian, Arabic and
Hebrew need. Vertical tab, form feed, the separators U+001C to U+001E and U+0085 end a line (Unicode Standard 5.8), so
they become line feeds. The zero-width space parts words in Thai, Lao, Burmese and Khmer, and is kept there.

Example:
    ``\x1b[31mred\x1b[0m\x00 zero\u200bwidth`` becomes ``red zerowidth``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

CANDIDATES = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{ad}\x{200b}\x{2060}\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{fffc}"
    r"\x{fffe}\x{ffff}\x{e0000}-\x{e007f}]"
)

# ECMA-48: control sequences and operating system commands.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_LINE_END = re.compile("[\x0b\x0c\x1c-\x1e\x85]")
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_ZERO_WIDTH_SPACE = f"(?<![{_SPACELESS}])\u200b|\u200b(?![{_SPACELESS}])"
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u2060\u206a-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff]|" + _ZERO_WIDTH_SPACE
)
# Tag characters are visible only in the flags of regions (Unicode Technical Standard 51).
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e007f]")


class Controls(Section):
    """Removes invisible characters without a meaning in text."""

    name: Literal["controls"] = "controls"

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import rewrite_texts

        return rewrite_texts(table, CANDIDATES, remove_controls)


def remove_controls(text: str) -> str:
    """The text without control characters, terminal escapes and invisible characters."""
    visible = _LINE_END.sub("\n", _ESCAPE.sub("", text))
    return _INVISIBLE.sub("", _TAGS.sub(lambda match: match.group(1) or "", visible))
