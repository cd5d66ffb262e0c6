"""CSV and TSV, with a header line or with the names of the columns in params; plain, gz, xz or zst, local or remote.

Good for: spreadsheets and classification sets (text and label).

Quotes are read strictly: where one is not closed as it should be, every line up to there is set aside by itself, so
that the share of bad rows is a true one and no half of a row passes for a whole. Files in which a quotation mark is
text like any other, as in GLUE's, are read with ``quotes: false``. A first line ``sep=;`` is Excel's.

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

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.files import PACKED, Texts, read_files
from tasks.corpus.reading.sources.source import Broken, Part, Records
from tasks.corpus.reading.sources.unpack import (
    BLOCK,
    Chained,
    LongLine,
    Readable,
    iterate_lines,
    open_unpacked,
    read_ahead,
)
from tasks.corpus.reading.sources.values import LONGEST_ROW, TOO_LONG, show_text

SUFFIXES = tuple(ending + packed for ending in (".csv", ".tsv") for packed in PACKED)
_EXCEL = re.compile(r"sep=(.)", re.IGNORECASE)
AS_TEXT = "; quotes: false reads quotation marks as text"
# Lines of one record. A quote that is never closed would otherwise swallow millions.
MOST_LINES = 100_000


class Csv(Texts):
    """Delimited text."""

    name: Literal["csv"] = "csv"
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="one character; read from the first line when absent"
    )
    columns: tuple[str, ...] = Field(
        default=(), description="names of the columns of a file without a header line, such as [text, label]"
    )
    quotes: bool = Field(default=True, description="false: a quotation mark is text like any other")

    @field_validator("columns")
    @classmethod
    def _names_differ(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(columns)) < len(columns):
            raise ValueError("two columns have the same name; rename one")
        return columns

    def read(self, root: Path) -> Records:
        """Read all rows; a ragged or undecodable one becomes a broken row.

        Raises:
            PipelineError: A header names a column twice.
        """
        return read_files(self, root, SUFFIXES, self._parse)

    def _parse(self, path: Path, name: str) -> Iterator[Part]:
        with open_unpacked(path, name, self.max_bytes, self.encoding) as stream:
            yield from parse_csv(stream, name, self.delimiter, self.columns, self.quotes)


class _TooLong(Exception):
    """A line, or a number of lines, that no row can hold, in the middle of what the CSV reader asked for."""


class _Lines:
    """Lines for the CSV reader, with those of the record under way at hand."""

    def __init__(self, stream: Readable) -> None:
        head = read_ahead(stream, BLOCK)
        # Files of old Macs end their lines with a carriage return alone.
        separator = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
        self._blocks = iterate_lines(Chained(head, stream), separator)
        self._block: Iterator[tuple[int, bytes]] = iter(())
        self._again: tuple[str, tuple[int, bytes], bool] | None = None
        self.size = 0
        self.taken: list[tuple[int, bytes]] = []
        self.torn = False
        self.long: LongLine | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again is not None:
            (again, first, self.torn), self._again = self._again, None
            self.taken = [first]
            return again
        if len(self.taken) == MOST_LINES:
            raise _TooLong
        pair = next(self._block, None)
        while pair is None:
            block = next(self._blocks)
            if isinstance(block, LongLine):
                self.long = block
                raise _TooLong
            self._block = enumerate(block[1], start=block[0])
            pair = next(self._block, None)
        self.taken.append(pair)
        self.size += len(pair[1])
        try:
            return pair[1].decode() + "\n"
        except UnicodeDecodeError:
            # Only its row is lost, not the file.
            self.torn = True
            return pair[1].decode(errors="surrogateescape") + "\n"

    def repeat(self, line: str) -> None:
        """Give this line, the last one, once more."""
        self._again = line, self.taken[-1], self.torn

    def forget(self) -> None:
        """Begin a record."""
        self.taken.clear()
        self.torn, self.long = False, None


def parse_csv(
    stream: Readable, name: str, delimiter: str | None, columns: Sequence[str] = (), quotes: bool = True
) -> Iterator[Part]:
    """Rows of a delimited text; the number of a row is the line it begins on.

    Args:
        stream: The text, as UTF-8.
        name: What the file is called in messages.
        delimiter: Between fields; found in the first line when None.
        columns: Names of the columns where the first line is a row already.
        quotes: Whether quotation marks hold a field together.

    Raises:
        PipelineError: The header cannot be read, or names a column twice.
    """
    csv.field_size_limit(LONGEST_ROW)
    lines = _Lines(stream)
    header, reader = _read_header(lines, name, delimiter, columns, quotes)
    if not header:
        return
    part = Part()
    while True:
        if lines.size >= BLOCK or len(part.broken) >= MOST_LINES:
            yield part
            part, lines.size = Part(), 0
        lines.forget()
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            part.broken += _set_aside(lines, f"not CSV ({error}){AS_TEXT}")
            continue
        except _TooLong:
            part.broken += _set_aside(lines, f"not CSV (unexpected end of data){AS_TEXT}")
            continue
        if not any(values):
            continue
        number, _ = lines.taken[0]
        if len(values) == len(header) and not lines.torn:
            part.items.append(dict(zip(header, values, strict=True)))
            part.numbers.append(number)
        else:
            reason = "another number of fields than the header" if len(values) != len(header) else "not UTF-8"
            part.broken.append(Broken(number, reason, show_text(b"\n".join(line for _, line in lines.taken))))
    yield part


def _read_header(
    lines: _Lines, name: str, delimiter: str | None, columns: Sequence[str], quotes: bool
) -> tuple[list[str], Iterator[list[str]]]:
    first = ""
    try:
        while not first.strip():
            lines.forget()
            first = next(lines)
            if (excel := _EXCEL.fullmatch(first.rstrip())) is not None:
                delimiter, first = delimiter or excel[1], ""
    except StopIteration:
        return [], iter(())
    except _TooLong as error:
        raise PipelineError(f"{name}: the header line is {TOO_LONG}; check that it is CSV") from error
    lines.repeat(first)
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
    except (csv.Error, _TooLong) as error:
        raise PipelineError(f"{name}: the header is not CSV ({error or TOO_LONG}); mend its quotes") from error
    if lines.torn:
        raise PipelineError(f"{name}: the header is not UTF-8; set encoding, such as cp1252")
    if header.count("") > 1:
        header = [column or f"column {place}" for place, column in enumerate(header, start=1)]
    twice = sorted(column for column, count in Counter(header).items() if count > 1)[:20]
    if twice:
        raise PipelineError(
            f"{name}: the header names {twice} twice; rename one of the columns, or if the first line is a row, "
            "name the columns with columns: [text, label]"
        )
    return header, reader


def _set_aside(lines: _Lines, reason: str) -> list[Broken]:
    """The lines of a record that is not CSV, each by itself."""
    broken = [
        Broken(number, "inside a record that is not CSV" if place else reason, show_text(line))
        for place, (number, line) in enumerate(lines.taken)
    ]
    if lines.long is not None:
        broken.append(Broken(lines.long.number, TOO_LONG, show_text(lines.long.start, lines.long.length)))
    return broken


def find_delimiter(header: str) -> str:
    """A tab where the first line has one, else the separator that stands most often in it, the comma when none does."""
    line = header.lstrip(" \r\n").partition("\n")[0]
    return "\t" if "\t" in line else max(",;|", key=line.count)
