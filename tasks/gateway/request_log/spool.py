"""Rows on disk while the database is unavailable: one JSON line each, synced, readable by the owner only."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from tasks.contracts.manifest import make_private

logger = logging.getLogger(__name__)

Entry = tuple[Literal["request", "feedback"], dict[str, Any]]

# A longer line is no row of a gateway; what is kept of it in the file of refused lines.
MAXIMUM_LINE_BYTES = 64 << 20
KEPT_BYTES = 1 << 20


class Spool:
    """An append-only file that is renamed before it is replayed.

    Args:
        path: The file; renamed ones stay beside it until they are in the database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries and wait for the disk.

        Raises:
            OSError: They cannot be written.
        """
        self.append_lines(to_lines(entries))

    def append_lines(self, lines: bytes) -> None:
        """Write complete lines and wait for the disk; nothing of them stays when that fails.

        Raises:
            OSError: They cannot be written.
        """
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            make_private(self.path)
            # Without a buffer, which would be written later, when the file is closed.
            with self.path.open("ab", buffering=0) as stream:
                begin = stream.tell()
                # A line left incomplete by a crash must not merge with the next one.
                left = lines if not begin or ends_with_newline(self.path) else b"\n" + lines
                try:
                    while left:
                        left = left[stream.write(left) :]
                    os.fsync(stream.fileno())
                except OSError:
                    # The rows stay in memory and are written again, so that part of them must not be here too.
                    os.ftruncate(stream.fileno(), begin)
                    raise

    def shorten(self, path: Path, offset: int) -> None:
        """Remove the first bytes of a renamed file; if that fails, all of it is replayed again.

        Args:
            path: A renamed file.
            offset: Bytes to remove.
        """
        aside = path.with_name(f"part-{path.name}")
        try:
            make_private(aside)
            with path.open("rb") as source, aside.open("wb") as target:
                source.seek(offset)
                while piece := source.read(1 << 20):
                    target.write(piece)
            # The rest keeps its place in the order of the files.
            stat = path.stat()
            os.utime(aside, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            aside.replace(path)
        except OSError as error:
            logger.warning("%s: cannot be shortened (%s)", path, error)

    def renamed(self) -> list[Path]:
        """The files being replayed, oldest first.

        Raises:
            OSError: The folder cannot be read.
        """
        prefix = f"{self.path.name}."
        try:
            found = [path for path in self.path.parent.iterdir() if path.name.startswith(prefix)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def take(self) -> list[Path]:
        """Rename the current file; returns the files to replay, oldest first.

        Raises:
            OSError: The folder cannot be read or changed.
        """
        with self._lock:
            if self.path.is_file():
                self.path.replace(self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}"))
        return self.renamed()


class RefusedLines:
    """What cannot be a row of the request log, kept with its reason: JSON lines of ``reason`` and ``line``.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spool = Spool(path)

    def append(self, refused: Sequence[tuple[str, bytes]]) -> None:
        """Keep lines with their reasons.

        Raises:
            OSError: They cannot be written.
        """
        rows = [
            {"reason": reason, "line": line[:KEPT_BYTES].decode("utf-8", "backslashreplace")}
            for reason, line in refused
        ]
        if rows:
            self._spool.append_lines(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))


@dataclass
class SpoolBatch:
    """Some lines of a spool file.

    Attributes:
        begin: Offset of the first line, bytes.
        entries: The rows.
        refused: Reason and content of each line that is no row.
    """

    begin: int
    entries: list[Entry] = field(default_factory=list)
    refused: list[tuple[str, bytes]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries) + len(self.refused)


def read_batches(path: Path, size: int, check: Callable[[str, dict[str, Any]], Entry]) -> Iterator[SpoolBatch]:
    """The lines of a spool file, a batch at a time.

    Args:
        path: The file.
        size: Maximum lines of a batch.
        check: Makes an entry of kind and row; ValueError with the reason where the row is none.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        batch = SpoolBatch(0)
        while line := stream.readline(MAXIMUM_LINE_BYTES):
            whole = line.endswith(b"\n")
            if len(line) == MAXIMUM_LINE_BYTES and not whole:
                while not (rest := stream.readline(MAXIMUM_LINE_BYTES)).endswith(b"\n") and rest:
                    pass
                batch.refused.append((f"a line of more than {MAXIMUM_LINE_BYTES} bytes, cut", line))
            elif line.strip():
                try:
                    batch.entries.append(read_line(line, check))
                except ValueError as error:
                    batch.refused.append((str(error), line))
            if len(batch) >= size:
                yield batch
                batch = SpoolBatch(stream.tell())
        if len(batch):
            yield batch


def read_line(line: bytes, check: Callable[[str, dict[str, Any]], Entry]) -> Entry:
    """The entry of a line.

    Raises:
        ValueError: It is none; the message says why.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON, perhaps cut off by a crash ({error})") from error
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not isinstance(value[0], str)
        or not isinstance(value[1], dict)
    ):
        raise ValueError("no pair of a kind and a row")
    return check(value[0], value[1])


def to_lines(entries: Sequence[Entry]) -> bytes:
    """Entries in the format of the file."""
    return b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries)


def ends_with_newline(path: Path) -> bool:
    """Whether the last line of a non-empty file is complete."""
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
