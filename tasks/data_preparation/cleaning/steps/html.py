"""HTML remnants: known tags, comments, scripts and entities.

Good for: text taken from web pages, ticket systems and e-mails. Code (fenced or in backticks) is kept, and
so is text that only looks like a tag: ``a < b``, ``x <y> z``, ``List<int>``, ``if a<b>c``.

Example:
    ``<p>Fish &amp; chips<br>today</p>`` becomes ``Fish & chips`` and ``today`` on two lines.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section
from tasks.corpus.text.code import outside_code

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

CANDIDATES = r"(?i)</?[a-z][a-z0-9]*[\s/>]|<!--|&(#\d+|#x[0-9a-f]+|[a-z]+[0-9]*);"

_BREAKS = "br|p|div|li|tr|h[1-6]|hr|ul|ol|table|blockquote|section|article|header|footer"
_INLINE = "span|strong|em|font|small|sub|sup|td|th|tbody|thead|img|html|body|head|label|button|input|form|link|meta"
# Tags that may also be names of variables are removed only in pairs.
_LETTERS = "a|b|i|s|u|q"
_VALUES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+))*\s*/?"""
_DROPPED = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_BREAK = re.compile(rf"<(?:{_BREAKS}){_VALUES}>|</(?:{_BREAKS})\s*>", re.IGNORECASE)
_TAG = re.compile(rf"<(?:{_INLINE}){_VALUES}>|</(?:{_INLINE})\s*>", re.IGNORECASE)
_PAIR = re.compile(rf"<({_LETTERS}){_VALUES}>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_LONE_CLOSE = re.compile(rf"</(?:{_LETTERS})\s*>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}[0-9]{0,2});")


class Html(Section):
    """Removes tags and resolves entities outside of code."""

    name: Literal["html"] = "html"

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import rewrite_texts

        return rewrite_texts(table, CANDIDATES, remove_html)


def remove_html(text: str) -> str:
    """The text without HTML; code is unchanged."""
    return outside_code(text, _strip_tags)


def _strip_tags(text: str) -> str:
    stripped = _DROPPED.sub("", text)
    stripped = _BREAK.sub("\n", stripped)
    stripped = _TAG.sub("", stripped)
    while (unpaired := _PAIR.sub(r"\2", stripped)) != stripped:
        stripped = unpaired
    stripped = _LONE_CLOSE.sub("", stripped)
    if stripped != text:
        # Removed tags leave empty lines behind; texts without tags keep theirs.
        stripped = re.sub(r"[ \t]*\n[ \t]*(?:\n[ \t]*)+", "\n", stripped).strip("\n")
    return _ENTITY.sub(lambda match: html.unescape(match.group()), stripped)
