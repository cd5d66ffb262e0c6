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
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import hash_file
from tasks.corpus.reading.sources.source import Part, Records, Source

log = logging.getLogger(__name__)

WATCHED = Path("data/raw")
PACKED = ("", ".gz", ".xz", ".zst")
ARCHIVES = ("zip", "tar")

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+(::|://)", re.IGNORECASE)
_SECRET = re.compile(r"secret|password|passwd|token|credential|^key$|_key$", re.IGNORECASE)


class Files(Source):
    """Params of every source that reads files."""

    path: str = Field(
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


class Texts(Files):
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


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes:
        name: What it is called in messages and in the manifest.
        path: Where it is, in its store or on this machine.
        store: The fsspec file system; None for a local file.
    """

    name: str
    path: str
    store: Any = None


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
    if is_remote(source.path):
        files = find_remote(source, root, suffixes)
    else:
        files = find_local(source.path, root, suffixes)
        hashes.update({file.name: hash_file(Path(file.path)) for file in files})
        if files:
            check_pin(source, source.place, hashes, root)
    return Records(_read(source, root, files, hashes, parse), hashes)


def _read(
    source: Files,
    root: Path,
    files: list[SourceFile],
    hashes: dict[str, str],
    parse: Callable[[Path, str], Iterator[Part]],
) -> Iterator[Part]:
    for number, file in enumerate(files, start=1):
        with _at_hand(file, source) as path:
            if file.store is not None:
                hashes[file.name] = hash_file(path)
                # With several files the pin is known with the last one only; it is checked before that one is read.
                if number == len(files):
                    check_pin(source, source.place, hashes, root)
            for part in parse(path, file.name):
                part.file = "" if len(files) == 1 else file.path.rpartition("/")[2]
                yield part


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
            file.store.get_file(file.path, str(target))
        yield target


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return _SCHEME.match(path) is not None


def find_local(path: str, root: Path, suffixes: Sequence[str]) -> list[SourceFile]:
    """The local files of a source, sorted by name; empty when there are none.

    Args:
        path: A file, a folder (its files with one of ``suffixes``, also below) or a glob.
        root: What a relative path is relative to.
        suffixes: Endings that count inside a folder.
    """
    place = root / path
    if place.is_dir():
        paths = [p for p in place.rglob("*") if p.name.lower().endswith(tuple(suffixes))]
    elif place.is_file():
        paths = [place]
    else:
        magic = next((i for i, part in enumerate(place.parts) if any(sign in part for sign in "*?[")), None)
        paths = [] if magic is None else list(Path(*place.parts[:magic]).glob(str(Path(*place.parts[magic:]))))
    return [SourceFile(name_file(p, root), str(p)) for p in sorted(p for p in paths if p.is_file())]


def is_web(path: str) -> bool:
    """Whether a path is a URL of the web."""
    return path.partition(":")[0].lower() in ("http", "https") and is_remote(path)


def find_remote(source: Files, root: Path, suffixes: Sequence[str]) -> list[SourceFile]:
    """The files of a URL, sorted by path; empty when there are none.

    Args:
        source: Its params.
        root: What the path of a local archive is relative to.
        suffixes: Endings that count inside a folder.

    Raises:
        PipelineError: A secret is not in the environment, or the store does not answer.
    """
    import fsspec

    outer, inside, inner = source.path.rpartition("::")
    url = f"{outer}::{(root / inner).resolve()}" if inside and not is_remote(inner) else source.path
    options = {**source.storage, **read_secrets(source.storage_secrets, source.title or source.name)}
    with explain_store(source, source.place):
        store, path = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
        if is_web(url):
            # Neither listed nor globbed: a server need not list, and ? begins a query.
            return [SourceFile(source.place, path, store)] if store.exists(path) else []
        if any(sign in path for sign in "*?["):
            paths = [found for found in store.glob(path) if store.isfile(found)]
        elif store.isfile(path):
            paths = [path]
        else:
            paths = [found for found in store.find(path) if found.lower().endswith(tuple(suffixes))]
        return [SourceFile(str(store.unstrip_protocol(found)), found, store) for found in sorted(paths)]


def read_secrets(names: Mapping[str, str], title: str) -> dict[str, str]:
    """Options whose values stand in environment variables.

    Args:
        names: Option to the name of its variable.
        title: Name of the source, for messages.

    Raises:
        PipelineError: Variables that are not set, all at once.
    """
    missing = [variable for variable in names.values() if not os.environ.get(variable)]
    raise_all([f'source "{title}": the environment variable {name} is not set; export it' for name in missing], title)
    return {option: os.environ[variable] for option, variable in names.items()}


def hide_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """A message without the values of the secrets, and on one line."""
    for variable in secrets.values():
        if os.environ.get(variable):
            text = text.replace(os.environ[variable], "***")
    return " ".join(text.split())[:300]


@contextmanager
def explain_store(source: Files, place: str) -> Iterator[None]:
    """Turn what a store raises into one line."""
    try:
        yield
    except PipelineError:
        raise
    except ImportError as error:
        raise PipelineError(
            f'source "{source.title or source.name}": {source.place} needs a package ({error}); install it, '
            "for s3:// with `pip install 'heptune[s3]'`"
        ) from error
    except Exception as error:
        # Every store raises errors of its own, with no common base.
        reason = hide_secrets(f"{type(error).__name__}: {error}", source.storage_secrets)
        raise PipelineError(
            f'source "{source.title or source.name}": {place} cannot be read ({reason}); '
            "check the URL, storage and storage_secrets"
        ) from error


def check_pin(source: Source, place: str, hashes: Mapping[str, str], root: Path) -> None:
    """Hold the content against its pin, and say so where nothing watches it.

    Args:
        source: Its params.
        place: Where it is, as configured.
        hashes: Name of each file to its SHA-256, in the order in which they are read.
        root: Root of the repository.

    Raises:
        PipelineError: The content is not the pinned one.
    """
    title = source.title or source.name
    found = combine_hashes(list(hashes.values()))
    if source.sha256 is not None and source.sha256 != found:
        raise PipelineError(
            f'source "{title}": {place} has sha256 {found}; pinned is {source.sha256}; '
            "restore the content, or pin the new hash if the change is wanted"
        )
    archive = place.rpartition("::")[2]
    inside = not is_remote(archive) and (root / archive).resolve().is_relative_to((root / WATCHED).resolve())
    if source.sha256 is None and not inside:
        log.warning(
            'source "%s": %s lies outside %s, so DVC does not watch it and a change goes unnoticed; '
            "move it there or pin it with sha256: %s",
            title,
            place,
            WATCHED,
            found,
        )


def combine_hashes(hashes: Sequence[str]) -> str:
    """One hash for a source: that of its only file, or over those of its files."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def name_file(path: Path, root: Path) -> str:
    """A local file's name: relative to the root where it lies below it."""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
