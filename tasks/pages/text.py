"""Text that clients and data wrote, made safe to show: every page and every plot takes it through here."""

from __future__ import annotations

import math
import re

# Control characters but line break and tab, half characters, and marks that turn the direction of the text after them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    """The text with a visible mark in place of each character that cannot be shown or would disturb what follows."""
    return _UNPRINTABLE.sub(REPLACEMENT, text)


def plot_text(text: str, limit: int = 60) -> str:
    r"""Any text as one line for a matplotlib figure, which would read ``$...$`` as a formula and fail on a wrong one.

    Args:
        text: What to show, such as a label.
        limit: Maximum characters; longer texts end in an ellipsis.

    Returns:
        The text on one line, with every ``$`` escaped; ``(empty)`` for one without visible characters.

    Example:
        >>> plot_text("$\\frac{x$")
        '\\$\\frac{x\\$'
    """
    # A label of many kilobytes is cut before it is searched.
    line = " ".join(printable(text[: 4 * limit]).split())
    if len(line) > limit or len(text) > 4 * limit:
        line = f"{line[: limit - 1]}…"
    return line.replace("$", r"\$") or "(empty)"


def as_sentence(text: str) -> str:
    """A finding as a sentence: with a capital, unless it begins with a name of params or of a suite, and a point.

    Example:
        >>> as_sentence("loss improved"), as_sentence("over_refusal guards")
        ('Loss improved.', 'over_refusal guards.')
    """
    first = text.partition(" ")[0].rstrip(":,")
    return f"{text}." if "_" in first else f"{text[0].upper()}{text[1:]}."


def plural(count: int, word: str, words: str = "") -> str:
    """A number with its noun.

    Args:
        count: How many.
        word: The noun for one.
        words: For several, where that is not the noun with an s.

    Example:
        >>> plural(1, "row"), plural(2500, "row"), plural(0, "process", "processes")
        ('1 row', '2,500 rows', '0 processes')
    """
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def show_score(value: float) -> str:
    """A score or difference with three significant digits and no more than six decimals: 4.64, 0.0133, 1,250."""
    if not math.isfinite(value):
        return "–"
    value = float(f"{value:.2e}")
    if abs(value) >= 100:
        return f"{value:,.0f}"
    shown = f"{value:.{min(6, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"
    return shown if float(shown) else "0"
