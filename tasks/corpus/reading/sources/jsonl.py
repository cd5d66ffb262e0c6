"""JSON Lines, and JSON files that hold one array or nested arrays of rows; plain, gz, xz or zst, local or remote.

Good for: everything exported by labelling tools and most public instruction sets. Lines are streamed, and so are the
rows of an array; an object that holds arrays of rows is read as a whole, up to 64 MiB.

Example:
    ``{name: jsonl, path: data/raw/faq.jsonl, title: faq}`` reads

        {"question": "Are you open on Sunday?", "answer": "No, Monday to Saturday."}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tasks.corpus.reading.sources.files import PACKED, Files, read_files
from tasks.corpus.reading.sources.source import Part, Records
from tasks.corpus.reading.sources.unpack import open_unpacked

SUFFIXES = tuple(ending + packed for ending in (".jsonl", ".json", ".ndjson") for packed in PACKED)


class Jsonl(Files):
    """JSON Lines or JSON."""

    name: Literal["jsonl"] = "jsonl"

    def read(self, root: Path) -> Records:
        """Read all rows; a line that is not a JSON object becomes a broken row."""
        return read_files(self, root, SUFFIXES, self._parse)

    def _parse(self, path: Path, name: str) -> Iterator[Part]:
        from tasks.corpus.reading.sources.json_rows import parse_json

        with open_unpacked(path, name, self.max_bytes) as (stream, encoding):
            yield from parse_json(stream, name, encoding)
