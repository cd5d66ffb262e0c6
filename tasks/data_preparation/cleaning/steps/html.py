"""HTML remnants in prose: known tags, comments, scripts and entities.

Good for: text taken from web pages, ticket systems and e-mails. A tag is what CommonMark's grammar of raw HTML takes
for one (https://spec.commonmark.org/0.31.2/#raw-html; a parser of web pages would begin an element in ``if a<b``), and
only if HTML knows its name: ``List<int>``, ``<ann@example.org>`` and ``<LABEL>`` are kept. A tag without attributes
that needs an end counts only with it, and names that are words (``<label>``, ``<article>``) only with attributes or
among other tags. ``<sub>`` and ``<sup>`` are kept, since ``x2`` is not ``x<sup>2</sup>``. Entities of invisible
characters (``&shy;``) are removed, as the step `controls` removes the characters.

Markup that is meant is kept, and so are its entities: code (fenced, in backticks, or by its form), tables, markup laid
out in lines, and every text of a conversation that speaks of HTML, XML, CSS and the like. ``markup: remove`` takes its
tags too, which suits documents of web pages; the cells of a table are parted by tabs then.

Example:
    ``<p>Fish &amp; chips<br>today</p>`` becomes ``Fish & chips`` and ``today`` on two lines.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.code import find_code, is_code, outside_code, without_code
from tasks.data_preparation.cleaning.steps.controls import remove_controls

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

CANDIDATES = r"(?i)</?[a-z][a-z0-9]*[\s/>]|<!--|&(#\d+|#x[0-9a-f]+|[a-z]+[0-9]*);"
# A conversation that says one of these is about markup; a file name or a tag of its own does not say it.
ABOUT_MARKUP = (
    r"(?i)(?:^|[^\w<./])(?:x?html\d?|xml|svg|css|markup|markdown|jsx|tsx|javascript|typescript|angular|vue|php|jinja2?|"
    r"web ?pages?|href|dom|snippets?|tags)(?:$|[^\w/=])"
)

_BREAKS = frozenset(
    {"br", "p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ul", "ol", "table", "blockquote"}
)
_INLINE = frozenset(
    {
        "a",
        "b",
        "i",
        "u",
        "span",
        "strong",
        "em",
        "font",
        "small",
        "img",
        "td",
        "th",
        "tbody",
        "thead",
        "script",
        "style",
    }
)
# Also words, which people put into angle brackets themselves.
_WORDS = frozenset(
    {
        "section",
        "article",
        "header",
        "footer",
        "html",
        "body",
        "head",
        "label",
        "button",
        "input",
        "form",
        "link",
        "meta",
    }
)
_KNOWN = _BREAKS | _INLINE | _WORDS
_ENDLESS = frozenset({"br", "hr", "p", "li", "tr", "td", "th", "tbody", "thead"})
# Tags beside which those of words are HTML, too.
_CERTAIN = frozenset({"br", "p", "div", "span"})

# Possessive, so that no place in a text is read more than a few times.
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[a-zA-Z][a-zA-Z0-9]*+)"
    r"(?P<attributes>(?:\s++[a-zA-Z_:@][\w:.@-]*+\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>=`]++))*+)\s*+/?>"
)
_OPENING = re.compile(r"<(?=[a-zA-Z/!])")
# Tried only where a run of blanks begins: from every blank of a run it would take the square of the time.
_EMPTY_LINES = re.compile(r"(?<![ \t])[ \t]*+\n[ \t]*+(?:\n[ \t]*+)++")
_RAW_END = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("script", "style")}
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}[0-9]{0,2});")
_LAID_OUT = re.compile(r"^[ \t]+</?[a-zA-Z]|^<(?:!doctype|html|\?xml)\b|<(?:td|th)\b", re.MULTILINE | re.IGNORECASE)
_TAG_LINE = re.compile(r"^</?[a-zA-Z][^<>\n]*+>[ \t]*+$", re.MULTILINE)


class Html(Section):
    """Removes tags and resolves entities in prose."""

    name: Literal["html"] = "html"
    markup: Literal["keep", "remove"] = Field(
        default="keep", description="tags of texts that are markup by their form, or by what the conversation is about"
    )

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import find_mentions, rewrite_texts

        if self.markup == "remove":
            return rewrite_texts(table, CANDIDATES, strip_html)
        return rewrite_texts(table, CANDIDATES, remove_html, rows=~find_mentions(table, ABOUT_MARKUP))


def remove_html(text: str) -> str:
    """The text without HTML; code, and texts that are markup, are unchanged."""
    prose = without_code(text)
    if _LAID_OUT.search(prose) or len(_TAG_LINE.findall(prose)) > 1:
        return text
    stripped = strip_html(text)
    return text if is_code(without_code(stripped)) else stripped


def strip_html(text: str) -> str:
    """The text without HTML, whatever it is; code in fences and backticks is unchanged."""
    return outside_code(_remove_tags(text), _resolve_entities)


@dataclass(frozen=True)
class Tag:
    """A tag, or a comment, script or style as a whole.

    Attributes:
        start: Index of its first character.
        end: Index behind its last.
        name: In lower case; ``!`` for a comment.
        closes: Whether it is an end tag.
        attributes: Whether it has attributes.
    """

    start: int
    end: int
    name: str
    closes: bool
    attributes: bool


def _remove_tags(text: str) -> str:
    removed = list(_choose_tags(list(_read_tags(text))))
    if not removed:
        return text
    parts: list[str] = []
    end = cells = 0
    for tag in removed:
        parts.append(text[end : tag.start])
        if tag.name in _BREAKS:
            parts.append("\n")
            cells = 0
        elif tag.name in ("td", "th") and not tag.closes:
            parts.append("\t" if cells else "")
            cells += 1
        end = tag.end
    parts.append(text[end:])
    # Removed tags leave empty lines behind; texts without tags keep theirs.
    return outside_code("".join(parts), lambda prose: _EMPTY_LINES.sub("\n", prose)).strip("\n")


def _read_tags(text: str) -> Iterator[Tag]:
    """Known tags, and comments, scripts and styles whole; from left to right, and none in code."""
    code = list(find_code(text))
    starts = [start for start, _ in code]
    endless: set[str] = set()
    place = 0
    while (opening := _OPENING.search(text, place)) is not None:
        start = place = opening.start()
        place += 1
        span = bisect_right(starts, start) - 1
        if span >= 0 and start < code[span][1]:
            place = code[span][1]
        elif text.startswith("<!--", start):
            end = text.find("-->", start + 4) if "<!--" not in endless else -1
            if end < 0:
                endless.add("<!--")
                continue
            yield Tag(start, end + 3, "!", False, True)
            place = end + 3
        elif (match := _TAG.match(text, start)) is not None and (name := match["name"].lower()) in _KNOWN:
            end = place = match.end()
            if name in _RAW_END and not match["end"]:
                close = _RAW_END[name].search(text, end) if name not in endless else None
                if close is None:
                    endless.add(name)
                    continue
                end = place = close.end()
            yield Tag(start, end, name, bool(match["end"]), bool(match["attributes"]))


def _choose_tags(tags: list[Tag]) -> Iterator[Tag]:
    """The tags that are HTML: with attributes, with their end, or without need of one."""
    paired: set[int] = set()
    opened: dict[str, list[int]] = {}
    for place, tag in enumerate(tags):
        if not tag.closes:
            opened.setdefault(tag.name, []).append(place)
        elif opened.get(tag.name):
            paired |= {opened[tag.name].pop(), place}
    certain = any(tag.name in _CERTAIN and (tag.attributes or place in paired) for place, tag in enumerate(tags))
    for place, tag in enumerate(tags):
        if tag.name == "!" or tag.name in _RAW_END or tag.attributes or tag.name in _ENDLESS:
            yield tag
        elif tag.name in _WORDS:
            if certain and place in paired:
                yield tag
        elif place in paired or tag.closes:
            yield tag


def _resolve_entities(text: str) -> str:
    resolved = _ENTITY.sub(_resolve_entity, text)
    return text if resolved == text else remove_controls(resolved)


def _resolve_entity(match: re.Match[str]) -> str:
    character = html.unescape(match.group())
    return match.group() if character == "\ufffd" else character
