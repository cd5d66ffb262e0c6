"""The files that the path of a source leads to, and those that are left out because they are no data.

A folder is read with all below it, a glob gives what it matches. Hidden files, leftovers of editors and systems and
notes about the data are left out (`tasks.contracts.leftovers`), in archives and stores too; a path or a glob that names
such a file itself is followed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.leftovers import find_reason, is_asked_for
from tasks.corpus.reading.sources.source import Source
from tasks.corpus.reading.sources.stores import Stored, explain_store, is_remote, is_web, read_secrets

if TYPE_CHECKING:
    from tasks.corpus.rows.rows import Listing

log = logging.getLogger(__name__)

SHOWN_FILES = 5


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes:
        name: What it is called in messages and in the manifest.
        path: Where it is, in its store or on this machine.
        place: Relative to the folder of the source, or to the part of a glob before its first wildcard.
        store: The fsspec file system; None for a local file.
    """

    name: str
    path: str
    place: str
    store: Any = None


@dataclass(frozen=True)
class FoundFiles:
    """What a path leads to.

    Attributes:
        files: The files to read, sorted by path.
        left_out: The other files there, relative to the same folder, each with the reason.
    """

    files: list[SourceFile]
    left_out: list[tuple[str, str]]


def find_local(path: str, root: Path, suffixes: Sequence[str]) -> FoundFiles:
    """The local files of a source.

    Args:
        path: A file, a folder (its files with one of ``suffixes``, also below) or a glob.
        root: What a relative path is relative to.
        suffixes: Endings that count inside a folder.
    """
    place = root / path
    if place.is_dir():
        return _choose({p.relative_to(place).as_posix(): str(p) for p in _list_files(place, "**/*")}, root, suffixes)
    if place.is_file():
        return _choose({place.name: str(place)}, root, pattern=place.name)
    magic = next((i for i, part in enumerate(place.parts) if any(sign in part for sign in "*?[")), None)
    if magic is None:
        return FoundFiles([], [])
    folder, pattern = Path(*place.parts[:magic]), str(Path(*place.parts[magic:]))
    paths = {p.relative_to(folder).as_posix(): str(p) for p in _list_files(folder, pattern)}
    return _choose(paths, root, pattern=pattern)


def _list_files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _choose(
    paths: Mapping[str, str], root: Path, suffixes: Sequence[str] = (), pattern: str = "", store: Any = None
) -> FoundFiles:
    """The files that are data.

    Args:
        paths: Path relative to the folder of the source, to the path in its store or on this machine.
        root: What the names of local files are relative to.
        suffixes: Endings of data in a folder; any when empty.
        pattern: The glob or name as configured; what it names is data, such as ``*.bak``.
        store: The fsspec file system; None for local files.
    """
    files: list[SourceFile] = []
    left_out: list[tuple[str, str]] = []
    for place, path in paths.items():
        reason = find_reason(place)
        if reason is not None and pattern and is_asked_for(pattern, reason):
            reason = None
        if reason is None and suffixes and not place.lower().endswith(tuple(suffixes)):
            reason = "another kind of file"
        if reason is not None:
            left_out.append((place, reason))
        else:
            name = name_file(Path(path), root) if store is None else str(store.unstrip_protocol(path))
            files.append(SourceFile(name, path, place, store))
    return FoundFiles(files, left_out)


def find_remote(source: Stored, root: Path, suffixes: Sequence[str]) -> FoundFiles:
    """The files of a URL.

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
            return FoundFiles([SourceFile(source.place, path, path, store)] if store.exists(path) else [], [])
        if any(sign in path for sign in "*?["):
            parts = path.split("/")
            magic = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
            found = sorted(p for p in store.glob(path) if store.isfile(p))
            places = {_name_below(p, "/".join(parts[:magic])): p for p in found}
            return _choose(places, root, pattern="/".join(parts[magic:]), store=store)
        if store.isfile(path):
            name = path.rpartition("/")[2]
            return _choose({name: path}, root, pattern=name, store=store)
        return _choose({_name_below(p, path): p for p in sorted(store.find(path))}, root, suffixes, store=store)


def _name_below(path: str, folder: str) -> str:
    """A path of a store relative to a folder of it."""
    return path.removeprefix(folder).lstrip("/")


def list_left_out(source: Source, left_out: Sequence[tuple[str, str]]) -> list[Listing]:
    """A table of the files of a source that are no data, by reason; it is logged too.

    Args:
        source: Its params.
        left_out: Each file, with the reason.
    """
    from tasks.corpus.rows.rows import Listing

    if not left_out:
        return []
    title = source.title or source.name
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, reason in left_out:
        names[reason].append(name)
    rows = tuple(
        (reason, len(found), ", ".join(sorted(found)[:SHOWN_FILES])) for reason, found in sorted(names.items())
    )
    for reason, count, examples in rows:
        log.info('source "%s": %d files left out (%s), such as %s', title, count, reason, examples)
    note = "To read such a file, name it in path."
    return [Listing(f'Files left out of source "{title}"', ("reason", "files", "such as"), rows, note)]


def name_file(path: Path, root: Path) -> str:
    """A local file's name: relative to the root where it lies below it."""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
