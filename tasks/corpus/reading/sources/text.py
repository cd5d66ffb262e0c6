"""Plain text files: a file is a row, or every line of it is; plain, gz, xz or zst, local or remote.

Good for: books, articles and notes that a model should learn to go on from, and lists with one text per line.

Example:
    ``{name: text, path: data/raw/articles, title: articles}`` reads every ``.txt`` and ``.md`` file below the folder
    as the row ``{"text": ...}``; with ``rows: lines`` every line that is not empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.corpus.reading.sources.files import PACKED, TextFiles, read_files
from tasks.corpus.reading.sources.source import Broken, Part, Records
from tasks.corpus.reading.sources.unpack import LongLine, iterate_lines, open_unpacked, read_ahead
from tasks.corpus.reading.sources.values import MAX_ROW_BYTES, TOO_LONG, show_text

SUFFIXES = tuple(ending + packed for ending in (".txt", ".md") for packed in PACKED)


class Text(TextFiles):
    """Plain text."""

    name: Literal["text"] = "text"
    rows: Literal["file", "lines"] = Field(default="file", description="what is a row: a whole file, or every line")

    def read(self, root: Path) -> Records:
        """Read all rows; what is not text of its encoding, or longer than 16 MiB, becomes a broken row."""
        return read_files(self, root, SUFFIXES, self._parse)

    def _parse(self, path: Path, name: str) -> Iterator[Part]:
        with open_unpacked(path, name, self.max_bytes, self.encoding) as (stream, encoding):
            if self.rows == "file":
                data = read_ahead(stream, MAX_ROW_BYTES + 1)
                part = Part()
                if len(data) > MAX_ROW_BYTES:
                    part.broken.append(Broken(1, TOO_LONG, show_text(data[:MAX_ROW_BYTES], len(data))))
                elif data.strip():
                    _take(part, 1, data, encoding)
                yield part
                return
            for found in iterate_lines(stream):
                part = Part()
                if isinstance(found, LongLine):
                    part.broken.append(Broken(found.number, TOO_LONG, show_text(found.start, found.length)))
                else:
                    first, lines = found
                    for number, line in enumerate(lines, start=first):
                        if line.strip():
                            _take(part, number, line.removesuffix(b"\r"), encoding)
                yield part


def _take(part: Part, number: int, data: bytes, encoding: str) -> None:
    try:
        part.items.append({"text": data.decode()})
        part.numbers.append(number)
    except UnicodeDecodeError:
        part.broken.append(Broken(number, f"not {encoding}", show_text(data)))
