"""Files of a source, local or in any store that fsspec knows: found, hashed, held against their pin, fetched.

A path with a scheme (``s3://bucket/part-*.jsonl.gz``, ``https://host/faq.jsonl``, ``memory://x``) is a file, folder or
glob of that store. Its files are fetched one at a time into a temporary file, so that what was hashed is what is read,
and the disk holds one of them at most. Files in an archive are named the same way:
``zip://reviews/*.txt::data/raw/reviews.zip``.

Example:
    ``{name: jsonl, path: "s3://support/2026/*.jsonl.zst", storage: {endpoint_url: "https://minio.local:9000"},
    storage_secrets: {key: MINIO_KEY, secret: MINIO_SECRET}}`` reads with the key that the environment variable
    ``MINIO_KEY`` holds.
"""

from __future__ import annotations

import codecs
import logging
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Reads
from tasks.corpus.reading.sources.found_files import SHOWN_FILES, SourceFile, find_local, find_remote, list_left_out
from tasks.corpus.reading.sources.pins import check_pin
from tasks.corpus.reading.sources.source import Broken, Part, Records, Source
from tasks.corpus.reading.sources.stores import explain_store, is_remote, is_web
from tasks.corpus.reading.sources.unpack import BrokenFile

if TYPE_CHECKING:
    from tasks.corpus.rows.rows import Listing

log = logging.getLogger(__name__)

PACKED = ("", ".gz", ".xz", ".zst")
ARCHIVES = ("zip", "tar")
# What unpacking a damaged member of an archive raises.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)

_SECRET = re.compile(r"secret|password|passwd|token|credential|^key$|_key$", re.IGNORECASE)


class Files(Source):
    """Params of every source that reads files."""

    path: Annotated[str, Reads("files")] = Field(
        min_length=1,
        description="file, folder or glob, relative to the repository; or the URL of one in any fsspec store",
    )
    storage: dict[str, Any] = Field(
        default_factory=dict, description="options of the store of a URL, such as {endpoint_url: ...}; no secrets"
    )
    storage_secrets: dict[str, str] = Field(
        default_factory=dict,
        description="option of the store to the environment variable that holds it, such as {key: AWS_ACCESS_KEY_ID}",
    )
    max_bytes: int = Field(
        default=8 * 1024**3,
        ge=1,
        description="most bytes a compressed file may unpack to; more is taken for a decompression bomb and stops",
    )

    @field_validator("path")
    @classmethod
    def _holds_no_password(cls, path: str) -> str:
        if is_remote(path) and urlsplit(path.rpartition("::")[2]).password is not None:
            raise ValueError("a URL must not hold a password; name its environment variable in storage_secrets")
        return path

    @model_validator(mode="after")
    def _storage_fits(self) -> Files:
        if (self.storage or self.storage_secrets) and not is_remote(self.path):
            raise ValueError(f"storage is for URLs, and {self.path} is none")
        secret = sorted(name for name in self.storage if _SECRET.search(name))
        if secret:
            raise ValueError(
                f"storage must not hold {', '.join(secret)}; name environment variables in storage_secrets"
            )
        return self

    @property
    def place(self) -> str:
        """The path as it may be shown: the query of a URL can hold a signature."""
        return self.path.partition("?")[0] if is_web(self.path) else self.path


class TextFiles(Files):
    """Params of every source that reads files of text."""

    encoding: str = Field(
        default="utf-8", description="of the text, such as cp1252; UTF-16 is recognised by its byte order mark"
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str) -> str:
        try:
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(
                f"unknown encoding {encoding}; use utf-8, cp1252, latin-1 or another of Python's"
            ) from error


def read_files(
    source: Files, root: Path, suffixes: Sequence[str], parse: Callable[[Path, str], Iterator[Part]]
) -> Records:
    """The rows of all files of a source.

    Args:
        source: Its params.
        root: What a relative path is relative to.
        suffixes: Endings that count inside a folder.
        parse: From a local file, and its name for messages, to its parts.

    Raises:
        PipelineError: A file cannot be read, or the content is not the pinned one.
    """
    hashes: dict[str, str] = {}
    remote = is_remote(source.path)
    found = find_remote(source, root, suffixes) if remote else find_local(source.path, root, suffixes)
    if not remote:
        hashes.update({file.name: hash_file(Path(file.path)) for file in found.files})
        if hashes:
            check_pin(source, source.place, hashes, root)
    listings = list_left_out(source, found.left_out)
    return Records(_read(source, root, found.files, hashes, parse, listings), hashes, listings)


def _read(
    source: Files,
    root: Path,
    files: list[SourceFile],
    hashes: dict[str, str],
    parse: Callable[[Path, str], Iterator[Part]],
    listings: list[Listing],
) -> Iterator[Part]:
    """The parts of all files; of several files, one that is broken becomes a broken row of the number 0."""
    broken: dict[str, str] = {}
    for number, file in enumerate(files, start=1):
        place = "" if len(files) == 1 else file.place
        try:
            with _at_hand(file, source) as path:
                if file.store is not None:
                    hashes[file.name] = hash_file(path)
                    # The pin is known with the last of several files only; it is checked before that one is read.
                    if number == len(files):
                        check_pin(source, source.place, hashes, root)
                for part in parse(path, file.name):
                    part.file = place
                    yield part
        except BrokenFile as error:
            if source.sha256 is not None and file.name not in hashes:
                raise
            broken[place] = str(error)
            if len(broken) == len(files):
                raise_all(list(broken.values())[:SHOWN_FILES], f'source "{source.title or source.name}"')
            log.warning('source "%s": %s; the rest of this file is left out', source.title or source.name, error)
            yield Part(place, broken=[Broken(0, str(error), "")])
    if broken:
        from tasks.corpus.rows.rows import Listing

        heading = f'Broken files of source "{source.title or source.name}"'
        note = "Rows before the damage were read. Fetch the files again, or remove them."
        listings.append(Listing(heading, ("file", "reason"), tuple(broken.items()), note))


@contextmanager
def _at_hand(file: SourceFile, source: Files) -> Iterator[Path]:
    if file.store is None:
        yield Path(file.path)
        return
    with tempfile.TemporaryDirectory(prefix="heptune-") as folder:
        target = Path(folder) / "file"
        with explain_store(source, file.name):
            size = file.store.size(file.path)
            if file.store.protocol in ARCHIVES and size > source.max_bytes:
                raise PipelineError(
                    f"{file.name}: unpacks to {size:,} bytes, more than the {source.max_bytes:,} of max_bytes; "
                    "raise it if this is no decompression bomb"
                )
            try:
                file.store.get_file(file.path, str(target))
            except DAMAGED as error:
                raise BrokenFile(f"{file.name}: cannot be unpacked ({error}); fetch the archive again") from error
        yield target
