"""Rows of JSON and JSON Lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.shapes.documents import list_rows
from tasks.corpus.reading.sources.broken_rows import show_row
from tasks.corpus.reading.sources.source import Broken, Part
from tasks.corpus.reading.sources.unpack import BLOCK, Chained, LongLine, Readable, iterate_lines, read_ahead
from tasks.corpus.reading.sources.values import DEEPEST, LONGEST_ROW, TOO_DEEP, TOO_LONG, is_deep, show_text

LARGEST_DOCUMENT = 64 * 1024 * 1024
# Objects and arrays in a document that is parsed as a whole: each takes some 100 bytes of memory.
MOST_VALUES = 8_000_000
ROWS_IN_PART = 8192
SNIFFED = 100

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NO_NUMBER = re.compile(rb"[:,\[]\s*-?(NaN|Infinity)\s*[,}\]]")
_SIGN = re.compile(rb"\S")
_GAP = re.compile(r"\s*,?\s*")


def parse_json(stream: Readable, name: str) -> Iterator[Part]:
    """Rows of a JSON or JSON Lines text.

    A text is JSON when it parses as a whole and is an array, or an object that is no row itself; an object's arrays
    of objects, however deep, are then its rows in the order in which they stand.

    Args:
        stream: The text, as UTF-8.
        name: What the file is called in messages.

    Raises:
        PipelineError: A JSON object is too large to be parsed as a whole, or a large array is no JSON.
    """
    head = read_ahead(stream, BLOCK)
    start, begins_with_row = _look_at(head)
    if start in (b"", b"[") or (start == b"{" and not begins_with_row):
        # Undecided: so much of it that a document is all there.
        head += read_ahead(stream, LARGEST_DOCUMENT - len(head))
        start, begins_with_row = _look_at(head)
    text = Chained(head, stream)
    small = len(head) < LARGEST_DOCUMENT and head.count(b"{") + head.count(b"[") <= MOST_VALUES
    if start not in (b"[", b"{") or (start == b"{" and begins_with_row):
        yield from _parse_lines(text)
    elif small:
        document = _parse_document(head)
        yield from _parse_lines(text) if document is None else _number_items(_cut(document))
    elif start == b"[" and not begins_with_row:
        yield from _number_items(_iterate_array(text, name))
    elif start == b"[" or any(isinstance(_load(line), dict) for line in head.split(b"\n", SNIFFED)[:SNIFFED]):
        yield from _parse_lines(text)
    else:
        raise PipelineError(
            f"{name}: begins like one JSON object of more than {LARGEST_DOCUMENT >> 20} MiB; "
            "convert it to JSON Lines, a row per line"
        )


def _look_at(head: bytes) -> tuple[bytes, bool]:
    """The first sign of a text, and whether its first line is a JSON value of its own with more after it."""
    first = _SIGN.search(head)
    if first is None:
        return b"", False
    end = head.find(b"\n", first.start())
    if end < 0 or _SIGN.search(head, end) is None:
        return first[0], False
    return first[0], _load(head[first.start() : end]) is not None


def _load(line: bytes) -> Any:
    """The value of a line, None where it is no JSON."""
    try:
        return _parse(line) if len(line) <= LONGEST_ROW else None
    except ValueError:
        return None


def _parse_document(data: bytes) -> list[Any] | None:
    try:
        document = _parse(data)
    except ValueError:
        return None
    return list_rows(document)


def _cut(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), ROWS_IN_PART):
        yield items[start : start + ROWS_IN_PART]


def _number_items(blocks: Iterable[list[Any]]) -> Iterator[Part]:
    count = 0
    for items in blocks:
        part = Part()
        for number, item in enumerate(items, start=count + 1):
            if isinstance(item, Unread):
                part.broken.append(Broken(number, item.reason, show_text(item.text)))
            elif not isinstance(item, dict):
                part.broken.append(Broken(number, "not a JSON object", show_row(item)))
            elif is_deep(item):
                part.broken.append(Broken(number, TOO_DEEP, show_row(item)))
            else:
                part.items.append(item)
                part.numbers.append(number)
        yield part
        count += len(items)


class Unread(NamedTuple):
    """An element of an array that is no row."""

    reason: str
    text: bytes


def _iterate_array(stream: Readable, name: str) -> Iterator[list[Any]]:
    """The elements of an array that is too large to be parsed as a whole, in blocks."""
    find_end = json.JSONDecoder().raw_decode
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, more, count = "", True, 0

    def read() -> tuple[str, bool]:
        block = stream.read(BLOCK)
        try:
            return decoder.decode(block, final=not block), bool(block)
        except UnicodeDecodeError as error:
            raise PipelineError(f"{name}: is not UTF-8 after row {count:,} of its array; convert it") from error

    while more and not text:
        text, more = read()
        text = text.lstrip()
    # After the bracket that opens the array.
    at = 1
    while more:
        items: list[Any] = []
        while True:
            at = _GAP.match(text, at).end()  # type: ignore[union-attr]
            if text.startswith("]", at):
                break
            try:
                end = find_end(text, at)[1]
            except (json.JSONDecodeError, RecursionError):
                break
            if end == len(text):
                break
            items.append(_read_element(text[at:end].encode()))
            at = end
        yield items
        count += len(items)
        new, more = read()
        text, at = text[at:] + new, 0
        if text.startswith("]") and not text[1:].strip():
            text = "]"
            continue
        if len(text) > LONGEST_ROW + BLOCK or not more:
            raise PipelineError(
                f"{name}: is no JSON after row {count:,} of its array; mend it there, or convert it to JSON Lines, "
                "where a bad row costs only itself"
            )


def _read_element(text: bytes) -> Any:
    try:
        return _parse(text)
    except ValueError:
        return Unread(_explain(text), text)


def _parse_lines(stream: Readable) -> Iterator[Part]:
    for block in iterate_lines(stream):
        if isinstance(block, LongLine):
            yield Part(broken=[Broken(block.number, TOO_LONG, show_text(block.start, block.length))])
            continue
        yield Lines(*block)


class Lines(Part):
    """Lines that are parsed when somebody asks for their rows, in whatever process that is.

    Args:
        first: Number of the first.
        lines: Without their ends.
    """

    def __init__(self, first: int, lines: list[bytes]) -> None:
        self.file = ""
        self._first = first
        self._lines = lines

    def __getattr__(self, name: str) -> Any:
        if name not in ("items", "numbers", "broken"):
            raise AttributeError(name)
        self.items, self.numbers, self.broken = [], [], []
        for number, line in enumerate(self._lines, start=self._first):
            try:
                item = _parse(line)
            except ValueError:
                if line.strip():
                    self.broken.append(Broken(number, _explain(line), show_text(line)))
                continue
            if not isinstance(item, dict):
                self.broken.append(Broken(number, "not a JSON object", show_text(line)))
            elif line.count(b"{") + line.count(b"[") > DEEPEST and is_deep(item):
                self.broken.append(Broken(number, TOO_DEEP, show_text(line)))
            else:
                self.items.append(item)
                self.numbers.append(number)
        self._lines = []
        return getattr(self, name)


def _parse(text: bytes) -> Any:
    """The value of a JSON text, in which NaN and infinities, which Python and pandas write, are nothing.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if _NO_NUMBER.search(text) is None or _SURROGATE.search(text):
            raise
    try:
        return json.loads(text.decode(), parse_constant=lambda name: None, parse_int=orjson.loads)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error


def _explain(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    if _SURROGATE.search(line):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return "not JSON"
        return "half of a surrogate pair, which is no character"
    return "not JSON"
