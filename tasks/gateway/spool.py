"""Rows on disk while the database is unavailable: one JSON line each, appended and synced."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import orjson

logger = logging.getLogger(__name__)

Entry = tuple[Literal["request", "feedback"], dict[str, Any]]


class Spool:
    """An append-only file that is renamed before it is replayed.

    Args:
        path: The file; renamed ones stay beside it until they are in the database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def shorten(self, path: Path, entries: Sequence[Entry]) -> None:
        """Rewrite a renamed file with the remaining entries; if that fails, all of them are replayed again."""
        aside = path.with_name(f"part-{path.name}")
        try:
            aside.write_bytes(to_lines(entries))
            aside.replace(path)
        except OSError as error:
            logger.warning("%s: cannot be shortened (%s)", path, error)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries and wait for the disk.

        Raises:
            OSError: They cannot be written.
        """
        lines = to_lines(entries)
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                # A line left incomplete by a crash must not merge with the next one.
                if stream.tell() and not ends_with_newline(self.path):
                    stream.write(b"\n")
                stream.write(lines)
                stream.flush()
                os.fsync(stream.fileno())

    def take(self) -> list[Path]:
        """Rename the current file; returns the files to replay, oldest first."""
        with self._lock:
            if self.path.is_file():
                self.path.replace(self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}"))
        return sorted(self.path.parent.glob(f"{self.path.name}.*"), key=lambda path: path.stat().st_mtime_ns)

    def is_empty(self) -> bool:
        """Whether nothing is left to replay."""
        return not self.path.is_file() and not any(self.path.parent.glob(f"{self.path.name}.*"))


def to_lines(entries: Sequence[Entry]) -> bytes:
    """Entries in the format of the file."""
    return b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries)


def ends_with_newline(path: Path) -> bool:
    """Whether the last line of a non-empty file is complete."""
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read_entries(path: Path) -> tuple[list[Entry], int]:
    """Entries of a spool file, and the number of corrupt lines (left incomplete by a crash)."""
    entries: list[Entry] = []
    corrupt = 0
    for line in path.read_bytes().splitlines():
        try:
            kind, row = orjson.loads(line)
        except (orjson.JSONDecodeError, ValueError, TypeError):
            corrupt += 1
            continue
        entries.append((kind, row))
    return entries, corrupt
