"""Rows of JSON and JSON Lines."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.shapes.documents import list_rows
from tasks.corpus.reading.sources.broken_rows import show_row
from tasks.corpus.reading.sources.source import Broken, Part
from tasks.corpus.reading.sources.unpack import (
    BLOCK,
    BrokenFile,
    Chained,
    LongLine,
    Readable,
    iterate_lines,
    read_ahead,
)
from tasks.corpus.reading.sources.values import MAX_DEPTH, MAX_ROW_BYTES, TOO_DEEP, TOO_LONG, is_deep, show_text

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
# Maximum objects and arrays of a document that is parsed as a whole; each takes about 100 bytes of memory.
MAX_CONTAINERS = 8_000_000
ROWS_PER_PART = 8192
SNIFFED_LINES = 100
# The parser makes a float of an integer of more than 64 bits.
MAX_FLOAT_ROW = 2.0**63

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NON_FINITE = re.compile(rb"[:,\[]\s*-?(NaN|Infinity)\s*[,}\]]")
_NON_SPACE = re.compile(rb"\S")
_SEPARATOR = re.compile(r"\s*,?\s*")


def parse_json(stream: Readable, name: str, encoding: str = "UTF-8") -> Iterator[Part]:
    """Rows of a JSON or JSON Lines text.

    A text is JSON when it parses as a whole and is an array, or an object that is not a row itself; then the objects
    in the arrays of the object, at any depth, are its rows in their order.

    Args:
        stream: The text, as UTF-8.
        name: Name of the file for messages.
        encoding: What the text was decoded with, for reasons.

    Raises:
        PipelineError: A JSON object is too large to be parsed as a whole.
        BrokenFile: A large array is not JSON.
    """
    head = read_ahead(stream, BLOCK)
    start, begins_with_row = _inspect_head(head)
    if start in (b"", b"[") or (start == b"{" and not begins_with_row):
        # JSON or JSON Lines: read enough to contain a whole document.
        head += read_ahead(stream, MAX_DOCUMENT_BYTES - len(head))
        start, begins_with_row = _inspect_head(head)
    text = Chained(head, stream)
    fits_in_memory = len(head) < MAX_DOCUMENT_BYTES and head.count(b"{") + head.count(b"[") <= MAX_CONTAINERS
    if start not in (b"[", b"{") or (start == b"{" and begins_with_row):
        yield from _parse_lines(text, encoding)
    elif fits_in_memory:
        document = _parse_document(head)
        yield from _parse_lines(text, encoding) if document is None else _number_items(_split_into_parts(document))
    elif start == b"[" and not begins_with_row:
        yield from _number_items(_iterate_array(text, name, encoding))
    elif start == b"[" or any(
        isinstance(_try_parse(line), dict) for line in head.split(b"\n", SNIFFED_LINES)[:SNIFFED_LINES]
    ):
        yield from _parse_lines(text, encoding)
    else:
        raise PipelineError(
            f"{name}: begins like one JSON object of more than {MAX_DOCUMENT_BYTES >> 20} MiB; "
            "convert it to JSON Lines, a row per line"
        )


def _inspect_head(head: bytes) -> tuple[bytes, bool]:
    """The first non-space byte, and whether the first line is a complete JSON value followed by more text."""
    first = _NON_SPACE.search(head)
    if first is None:
        return b"", False
    end = head.find(b"\n", first.start())
    if end < 0 or _NON_SPACE.search(head, end) is None:
        return first[0], False
    return first[0], _try_parse(head[first.start() : end]) is not None


def _try_parse(line: bytes) -> Any:
    """The value of a line, None when it is not JSON."""
    try:
        return _parse(line) if len(line) <= MAX_ROW_BYTES else None
    except ValueError:
        return None


def _parse_document(data: bytes) -> list[Any] | None:
    try:
        document = _parse(data)
    except ValueError:
        return None
    return list_rows(document)


def _split_into_parts(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), ROWS_PER_PART):
        yield items[start : start + ROWS_PER_PART]


def _number_items(blocks: Iterable[list[Any]]) -> Iterator[Part]:
    count = 0
    for items in blocks:
        part = Part()
        for number, item in enumerate(items, start=count + 1):
            if isinstance(item, BrokenElement):
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


class BrokenElement(NamedTuple):
    """An array element that is not valid JSON."""

    reason: str
    text: bytes


def _iterate_array(stream: Readable, name: str, encoding: str) -> Iterator[list[Any]]:
    """The elements of an array that is too large to be parsed as a whole, in batches."""
    find_end = json.JSONDecoder().raw_decode
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, has_more, count = "", True, 0

    def read() -> tuple[str, bool]:
        block = stream.read(BLOCK)
        try:
            return decoder.decode(block, final=not block), bool(block)
        except UnicodeDecodeError as error:
            raise BrokenFile(
                f"{name}: is not {encoding} after row {count:,} of its array; fetch it again, or convert it to UTF-8"
            ) from error

    while has_more and not text:
        text, has_more = read()
        text = text.lstrip()
    # Skip the opening bracket of the array.
    position = 1
    while has_more:
        items: list[Any] = []
        while True:
            position = _SEPARATOR.match(text, position).end()  # type: ignore[union-attr]
            if text.startswith("]", position):
                break
            try:
                end = find_end(text, position)[1]
            except (json.JSONDecodeError, RecursionError):
                break
            if end == len(text):
                break
            items.append(_read_element(text[position:end].encode(), encoding))
            position = end
        yield items
        count += len(items)
        added, has_more = read()
        text, position = text[position:] + added, 0
        if text.startswith("]") and not text[1:].strip():
            text = "]"
            continue
        if len(text) > MAX_ROW_BYTES + BLOCK or not has_more:
            raise BrokenFile(
                f"{name}: is not JSON after row {count:,} of its array; fix it there, or convert it to JSON Lines, "
                "where a bad row costs only itself"
            )


def _read_element(text: bytes, encoding: str) -> Any:
    try:
        return _parse(text)
    except ValueError:
        return BrokenElement(_explain(text, encoding), text)


def _parse_lines(stream: Readable, encoding: str) -> Iterator[Part]:
    for block in iterate_lines(stream):
        if isinstance(block, LongLine):
            yield Part(broken=[Broken(block.number, TOO_LONG, show_text(block.start, block.length))])
            continue
        yield Lines(*block, encoding)


class Lines(Part):
    """JSON lines that are parsed lazily, so that parsing runs in the process that converts the rows.

    Args:
        first: Number of the first line.
        lines: The lines without line breaks.
        encoding: What they were decoded with, for reasons.
    """

    def __init__(self, first: int, lines: list[bytes], encoding: str = "UTF-8") -> None:
        self.file, self.padded = "", Counter()
        self._encoding = encoding
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
                    self.broken.append(Broken(number, _explain(line, self._encoding), show_text(line)))
                continue
            if not isinstance(item, dict):
                self.broken.append(Broken(number, "not a JSON object", show_text(line)))
            elif line.count(b"{") + line.count(b"[") > MAX_DEPTH and is_deep(item):
                self.broken.append(Broken(number, TOO_DEEP, show_text(line)))
            else:
                self.items.append(item)
                self.numbers.append(number)
        self._lines = []
        return getattr(self, name)


def _parse(text: bytes) -> Any:
    """The value of a JSON text; NaN and infinities, which Python and pandas write, become null.

    An integer of more than 64 bits in a column of a row becomes text, since its last digits would be lost in a float.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        value = orjson.loads(text)
        if isinstance(value, dict) and any(type(v) is float and abs(v) >= MAX_FLOAT_ROW for v in value.values()):
            return json.loads(text, parse_int=_read_integer, parse_constant=lambda name: None)
        return value
    except orjson.JSONDecodeError:
        if _NON_FINITE.search(text) is None or _SURROGATE.search(text):
            raise
    try:
        return json.loads(text.decode(), parse_constant=lambda name: None, parse_int=orjson.loads)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error


def _read_integer(digits: str) -> int | str:
    """An integer, as text where it has more than 64 bits; Python reads no integers of thousands of digits."""
    if len(digits) > 20:
        return digits
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else digits


def _explain(line: bytes, encoding: str) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return f"not {encoding}"
    if _SURROGATE.search(line):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return "not JSON"
        return "half of a surrogate pair, which is no character"
    return "not JSON"
