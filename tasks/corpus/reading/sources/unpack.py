"""The bytes of a file, unpacked piece by piece and cut into lines, with bounds on everything a file can claim.

gzip, xz and zstd are recognised by their first bytes, not by the name of the file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.values import MAX_ROW_BYTES, MAX_SHOWN_CHARACTERS

BLOCK = 4 * 1024 * 1024
# Memory an xz file may ask for; `xz -9` needs 65 MiB.
XZ_MEMORY = 256 * 1024 * 1024
BOM = b"\xef\xbb\xbf"
PARQUET = b"PAR1"
FOREIGN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; read an archive's files with the path zip://*::ARCHIVE, "
    "export a spreadsheet as CSV",
    b"BZh": "packed with bzip2; pack it with gzip, xz or zstd",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    PARQUET: "a Parquet file; read it with the source parquet",
    b"ARROW1": "an Arrow file; read the folder that it lies in with the source hugging_face",
    b"\xff\xff\xff\xff": "an Arrow stream; read the folder that it lies in with the source hugging_face",
    b"SQLite format 3": "an SQLite database; read it with the source sql",
}


class Readable(Protocol):
    """Something that gives bytes until there are no more; at times more or fewer than asked for."""

    def read(self, size: int, /) -> bytes: ...


class BrokenFile(PipelineError):
    """A file that is torn or is not what its source reads: of several files, the others are read without it."""


class Unpacked(NamedTuple):
    """The text of a file as UTF-8.

    Attributes:
        stream: Its bytes; what was not valid in the encoding is not valid UTF-8 either.
        encoding: What it was decoded with, for the reasons of broken rows.
    """

    stream: Readable
    encoding: str


class LongLine(NamedTuple):
    """A line that is longer than any row may be.

    Attributes:
        number: Counted from 1.
        start: Its beginning.
        length: In bytes.
    """

    number: int
    start: bytes
    length: int


@contextmanager
def open_unpacked(path: Path, name: str, max_bytes: int, encoding: str = "utf-8") -> Iterator[Unpacked]:
    """The content of a file, unpacked, as UTF-8, without a byte order mark.

    Args:
        path: The file.
        name: What it is called in messages.
        max_bytes: Most bytes it may unpack to.
        encoding: Of its text. Bytes that are not valid in it come through as they are.

    Raises:
        PipelineError: It cannot be read or unpacks to too much. Reading raises it too.
        BrokenFile: It is torn, or is packed in another way. Reading raises it too.
    """
    start = refuse_foreign(path, name)
    with _explain(name):
        file = path.open("rb")
    with file:
        unpacked = _unpack(file, start)
        with _explain(name):
            # A decompressor may give fewer bytes at a time.
            start = read_ahead(unpacked, 4)
        source, most = Chained(start, unpacked), None if unpacked is file else max_bytes
        stream = io.BufferedReader(_Bounded(source, name, most), BLOCK)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            # Little endian UTF-32 begins like UTF-16.
            encoding = "utf-32" if start == b"\xff\xfe\0\0" else "utf-16"
        elif start.startswith(BOM):
            stream.read(len(BOM))
        elif encoding == "utf-8" and [bool(byte) for byte in start] in ([True, False] * 2, [False, True] * 2):
            raise BrokenFile(
                f"{name}: every other byte is zero, as in UTF-16 without its byte order mark; convert it to UTF-8, or "
                "where the source takes encoding, set utf-16-le or utf-16-be"
            )
        shown = encoding.upper() if encoding.startswith("utf") else encoding
        yield Unpacked(stream if encoding == "utf-8" else _Recoded(stream, name, encoding), shown)


def fix_encoding(encoding: str) -> str:
    """What to do about bytes that are not valid in an encoding."""
    if encoding == "UTF-8":
        return "set encoding, such as cp1252, or convert it to UTF-8"
    if encoding.startswith("UTF"):
        return "the file is torn or damaged; fetch it again, or convert it to UTF-8"
    return f"it is of another encoding than {encoding}, or damaged; correct encoding, or convert it to UTF-8"


def refuse_foreign(path: Path, name: str, own: bytes = b"") -> bytes:
    """The first bytes of a file, unless they say that it is of another kind than its source reads.

    Args:
        path: The file.
        name: What it is called in messages.
        own: What files of this kind begin with.

    Raises:
        PipelineError: It cannot be read.
        BrokenFile: It is of another kind.
    """
    with _explain(name), path.open("rb") as file:
        start = file.read(16)
    for magic, what in FOREIGN.items():
        if magic != own and start.startswith(magic):
            raise BrokenFile(f"{name}: is {what}")
    return start


def _unpack(file: BinaryIO, start: bytes) -> Readable:
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"\xfd7zXZ\x00"):
        return _Xz(file)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        stream: Readable = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        return stream
    return file


@contextmanager
def _explain(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        # The system numbers its errors, such as a file without permission; decompressors do not.
        kind = PipelineError if getattr(error, "errno", None) else BrokenFile
        raise kind(f"{name}: cannot be read ({error}); fetch the file again") from error


class _Bounded(io.RawIOBase):
    """Counts what comes out of a decompressor, and stops at a bound."""

    def __init__(self, source: Readable, name: str, most: int | None) -> None:
        self._source, self._name, self._most = source, name, most
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _explain(self._name):
            data = self._source.read(len(buffer))
        self._count += len(data)
        if self._most is not None and self._count > self._most:
            raise PipelineError(
                f"{self._name}: unpacks to more than {self._most:,} bytes; check that it is no decompression bomb, "
                "then raise max_bytes"
            )
        buffer[: len(data)] = data
        return len(data)


class _Xz:
    """One xz stream after another, as `lzma.LZMAFile` reads them, with a bound on the memory they may ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = self._begin()

    def _begin(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while True:
            fed = b""
            if self._decompressor.eof:
                # Streams may be padded with zeros.
                fed = self._decompressor.unused_data.lstrip(b"\0")
                while not fed:
                    fed = self._file.read(io.DEFAULT_BUFFER_SIZE)
                    if not fed:
                        return b""
                    fed = fed.lstrip(b"\0")
                self._decompressor = self._begin()
            elif self._decompressor.needs_input:
                fed = self._file.read(io.DEFAULT_BUFFER_SIZE)
                if not fed:
                    raise EOFError("it ends before its end-of-stream marker")
            data = self._decompressor.decompress(fed, size)
            if data:
                return data


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    """One byte that is not UTF-8 in the place of what cannot be decoded, so that only its row is broken."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error("heptune-mark", _mark_undecodable)


class _Recoded:
    """Text of another encoding as UTF-8; what is not valid in it comes through as bytes that are not UTF-8."""

    def __init__(self, stream: io.BufferedReader[_Bounded], name: str, encoding: str) -> None:
        # Bytes of an encoding of one or more single bytes can be shown; the halves of UTF-16 and UTF-32 cannot.
        errors = "heptune-mark" if encoding.startswith("utf") else "surrogateescape"
        self._text = io.TextIOWrapper(stream, encoding, errors=errors, newline="")
        self._name, self._encoding = name, encoding

    def read(self, size: int, /) -> bytes:
        try:
            text = self._text.read(size)
        except UnicodeError as error:
            # UTF-16 without its byte order mark: no byte of it can be decoded.
            raise BrokenFile(f"{self._name}: is not {self._encoding} ({error}); convert it to UTF-8") from error
        try:
            return text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            # UTF-7 can write half of a surrogate pair; its bytes are not UTF-8.
            return text.encode(errors="surrogatepass")


def iterate_lines(stream: Readable, separator: bytes = b"\n") -> Iterator[tuple[int, list[bytes]] | LongLine]:
    """Lines without their separator, in blocks: the number of the first, and the lines.

    A line longer than `MAX_ROW_BYTES` comes by itself, cut, and is never held as a whole.
    """
    number, rest = 1, b""
    while block := stream.read(BLOCK):
        lines = (rest + block).split(separator)
        rest = lines.pop()
        yield from set_long_apart(number, lines)
        number += len(lines)
        if len(rest) > MAX_ROW_BYTES:
            start, length = rest[:MAX_SHOWN_CHARACTERS], len(rest)
            rest, skipped = skip_line(stream, separator)
            yield LongLine(number, start, length + skipped)
            number += 1
    if rest:
        yield from set_long_apart(number, rest.split(separator))


def set_long_apart(number: int, lines: list[bytes]) -> Iterator[tuple[int, list[bytes]] | LongLine]:
    """Lines from a number on, each that is longer than `MAX_ROW_BYTES` by itself."""
    start = 0
    for place, line in enumerate(lines):
        if len(line) > MAX_ROW_BYTES:
            if start < place:
                yield number + start, lines[start:place]
            yield LongLine(number + place, line[:MAX_SHOWN_CHARACTERS], len(line))
            start = place + 1
    if start < len(lines):
        yield number + start, lines[start:]


def skip_line(stream: Readable, separator: bytes) -> tuple[bytes, int]:
    """What follows the end of the line under way, and how many bytes of it were skipped."""
    skipped = 0
    while block := stream.read(BLOCK):
        before, found, after = block.partition(separator)
        skipped += len(before)
        if found:
            return after, skipped
    return b"", skipped


class Chained:
    """Bytes that were read ahead, then the stream they came from."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = io.BytesIO(head)
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._stream.read(size)


def read_ahead(stream: Readable, size: int) -> bytes:
    """So many bytes, or a little more, or all there are."""
    blocks: list[bytes] = []
    held = 0
    while held < size and (block := stream.read(min(BLOCK, size - held))):
        blocks.append(block)
        held += len(block)
    return b"".join(blocks)
