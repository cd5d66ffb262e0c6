"""CSV and TSV, with a header line or with the names of the columns in params; plain, gz, xz or zst, local or remote.

Good for: spreadsheets and classification sets (text and label).

Quotes are parsed strictly: if one is not closed properly, every line of the record becomes a broken row, so that the
share of broken rows is correct and no partial row is accepted. Files that use quotation marks as ordinary text, such as
those of GLUE, are read with ``quotes: false``. A first line ``sep=;`` as written by Excel sets the delimiter.

Example:
    ``{name: csv, path: data/raw/intents.csv, label: category}`` reads

        text,category
        Where is my card?,card_arrival
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.corpus.reading.sources.files import PACKED, TextFiles, read_files
from tasks.corpus.reading.sources.source import Broken, Part, Records
from tasks.corpus.reading.sources.unpack import (
    BLOCK,
    BrokenFile,
    Chained,
    LongLine,
    Readable,
    fix_encoding,
    iterate_lines,
    open_unpacked,
    read_ahead,
)
from tasks.corpus.reading.sources.values import MAX_ROW_BYTES, TOO_LONG, show_text

SUFFIXES = tuple(ending + packed for ending in (".csv", ".tsv") for packed in PACKED)
_EXCEL_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)
QUOTES_HINT = "; quotes: false reads quotation marks as text"
# Maximum lines of one record; an unclosed quote would otherwise read millions of lines into one.
MAX_RECORD_LINES = 100_000


class Csv(TextFiles):
    """Delimited text."""

    name: Literal["csv"] = "csv"
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="one character; detected in the first line when absent"
    )
    columns: tuple[str, ...] = Field(
        default=(), description="names of the columns of a file without a header line, such as [text, label]"
    )
    quotes: bool = Field(default=True, description="false: quotation marks are ordinary text")

    @field_validator("columns")
    @classmethod
    def _check_names(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(columns)) < len(columns):
            raise ValueError("two columns have the same name; rename one")
        return columns

    def read(self, root: Path) -> Records:
        """Read all rows; a row with a wrong number of fields or invalid UTF-8 becomes a broken row.

        Raises:
            BrokenFile: A header has two columns of the same name.
        """
        return read_files(self, root, SUFFIXES, self._parse)

    def _parse(self, path: Path, name: str) -> Iterator[Part]:
        with open_unpacked(path, name, self.max_bytes, self.encoding) as (stream, encoding):
            yield from parse_csv(stream, name, self.delimiter, self.columns, self.quotes, encoding)


class _RecordTooLong(Exception):
    """A record exceeds the maximum line length or number of lines while the CSV reader parses it."""


class _Lines:
    """Iterator of lines for the CSV reader that keeps the lines of the current record."""

    def __init__(self, stream: Readable) -> None:
        head = read_ahead(stream, BLOCK)
        # Classic Mac OS files end lines with a carriage return alone.
        separator = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
        self._blocks = iterate_lines(Chained(head, stream), separator)
        self._block: Iterator[tuple[int, bytes]] = iter(())
        self._repeated_line: tuple[str, tuple[int, bytes], bool] | None = None
        self.size = 0
        self.record_lines: list[tuple[int, bytes]] = []
        self.has_invalid_bytes = False
        self.long_line: LongLine | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._repeated_line is not None:
            (line, numbered_line, self.has_invalid_bytes), self._repeated_line = self._repeated_line, None
            self.record_lines = [numbered_line]
            return line
        if len(self.record_lines) == MAX_RECORD_LINES:
            raise _RecordTooLong
        next_line = next(self._block, None)
        while next_line is None:
            block = next(self._blocks)
            if isinstance(block, LongLine):
                self.long_line = block
                raise _RecordTooLong
            self._block = enumerate(block[1], start=block[0])
            next_line = next(self._block, None)
        self.record_lines.append(next_line)
        self.size += len(next_line[1])
        try:
            return next_line[1].decode() + "\n"
        except UnicodeDecodeError:
            # Only this row is broken, not the whole file.
            self.has_invalid_bytes = True
            return next_line[1].decode(errors="surrogateescape") + "\n"

    def push_back(self, line: str) -> None:
        """Return the last line once more."""
        self._repeated_line = line, self.record_lines[-1], self.has_invalid_bytes

    def start_record(self) -> None:
        """Begin a new record."""
        self.record_lines.clear()
        self.has_invalid_bytes, self.long_line = False, None


def parse_csv(
    stream: Readable,
    name: str,
    delimiter: str | None,
    columns: Sequence[str] = (),
    quotes: bool = True,
    encoding: str = "UTF-8",
) -> Iterator[Part]:
    """Rows of a delimited text; the number of a row is the line it begins on.

    Args:
        stream: The text, as UTF-8.
        name: Name of the file for messages.
        delimiter: Field separator; detected in the first line when None.
        columns: Names of the columns of a file without a header line.
        quotes: Whether quotation marks enclose fields.
        encoding: What the text was decoded with, for messages.

    Raises:
        BrokenFile: The header cannot be parsed, or has two columns of the same name.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(stream)
    header, reader = _read_header(lines, name, delimiter, columns, quotes, encoding)
    if not header:
        return
    part = Part()
    while True:
        if lines.size >= BLOCK or len(part.broken) >= MAX_RECORD_LINES:
            yield part
            part, lines.size = Part(), 0
        lines.start_record()
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            part.broken += _break_record(lines, f"not CSV ({error}){QUOTES_HINT}")
            continue
        except _RecordTooLong:
            part.broken += _break_record(lines, f"not CSV (unexpected end of data){QUOTES_HINT}")
            continue
        if not any(values):
            continue
        number, _ = lines.record_lines[0]
        if len(values) == len(header) and not lines.has_invalid_bytes:
            part.items.append(dict(zip(header, values, strict=True)))
            part.numbers.append(number)
        else:
            reason = "another number of fields than the header" if len(values) != len(header) else f"not {encoding}"
            part.broken.append(Broken(number, reason, show_text(b"\n".join(line for _, line in lines.record_lines))))
    yield part


def _read_header(
    lines: _Lines, name: str, delimiter: str | None, columns: Sequence[str], quotes: bool, encoding: str
) -> tuple[list[str], Iterator[list[str]]]:
    first = ""
    try:
        while not first.strip():
            lines.start_record()
            first = next(lines)
            if (separator_line := _EXCEL_SEPARATOR.fullmatch(first.rstrip())) is not None:
                delimiter, first = delimiter or separator_line[1], ""
    except StopIteration:
        return [], iter(())
    except _RecordTooLong as error:
        raise BrokenFile(f"{name}: the header line is {TOO_LONG}; check that it is CSV") from error
    lines.push_back(first)
    reader = csv.reader(
        lines,
        delimiter=delimiter or find_delimiter(first),
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=quotes,
    )
    if columns:
        return list(columns), reader
    try:
        header = next(reader)
    except (csv.Error, _RecordTooLong) as error:
        raise BrokenFile(f"{name}: the header is not CSV ({error or TOO_LONG}); fix its quotes") from error
    if lines.has_invalid_bytes:
        raise BrokenFile(f"{name}: the header is not {encoding}; {fix_encoding(encoding)}")
    if header.count("") > 1:
        header = [column or f"column {place}" for place, column in enumerate(header, start=1)]
    duplicate_names = sorted(column for column, count in Counter(header).items() if count > 1)[:20]
    if duplicate_names:
        raise BrokenFile(
            f"{name}: the header names {duplicate_names} twice; rename one of the columns, or if the first line is a "
            "row, name the columns with columns: [text, label]"
        )
    return header, reader


def _break_record(lines: _Lines, reason: str) -> list[Broken]:
    """A broken row for each line of a record that is not CSV."""
    broken = [
        Broken(number, "inside a record that is not CSV" if position else reason, show_text(line))
        for position, (number, line) in enumerate(lines.record_lines)
    ]
    if lines.long_line is not None:
        broken.append(
            Broken(lines.long_line.number, TOO_LONG, show_text(lines.long_line.start, lines.long_line.length))
        )
    return broken


def find_delimiter(header: str) -> str:
    """A tab if the first line contains one, else its most frequent separator, by default the comma."""
    line = header.lstrip(" \r\n").partition("\n")[0]
    return "\t" if "\t" in line else max(",;|", key=line.count)
