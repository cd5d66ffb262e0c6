"""A folder is complete once its ``manifest.json`` is there: written last, renamed into place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError, raise_all, write_advice

NAME = "manifest.json"
VERSION = 1


def hash_file(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """A file beside ``path`` to be written in the block; synced and renamed into place at its end, removed on an error.

    Args:
        path: The file to replace.
        private: Only the owner may read it, from its first byte on.

    Raises:
        PipelineError: The disk refused it.
    """
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if private:
                make_private(aside)
            yield aside
            with aside.open("rb+") as stream:
                os.fsync(stream.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PipelineError(f"{path}: cannot write ({reason}); {write_advice(reason)} and run again") from error


def make_private(path: Path) -> None:
    """Create a file that only its owner may read and write, or take these rights from the others.

    Raises:
        OSError: It cannot be created, or belongs to somebody else.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # Not opened: closing a handle of a database would end the locks that other threads hold on it.
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file, see `replacing`."""
    with replacing(path, private) as aside:
        aside.write_bytes(content)


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Write JSON with sorted keys, see `replacing`."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    write_bytes(path, orjson.dumps(value, option=options), private)


def find_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where it is missing, torn or no object: what is told then is told without it."""
    import orjson

    try:
        values = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        PipelineError: The file is missing or not JSON.
    """
    import orjson

    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise PipelineError(f"{path}: missing; run `heptune run` (or `dvc repro`) to make it") from error
    except orjson.JSONDecodeError as error:
        raise PipelineError(f"{path}: not JSON ({error}); delete it and run again") from error


def seal(folder: Path, files: Iterable[Path], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a folder.

    Args:
        folder: Where ``manifest.json`` goes.
        files: The files it vouches for, each below ``folder``.
        facts: Counts, seed and whatever a reader should check; no time, host or run id.

    Returns:
        The manifest: ``version``, ``files`` (relative path to sha256 and bytes) and the facts.
    """
    entries = {
        str(path.relative_to(folder)): {"sha256": hash_file(path), "bytes": path.stat().st_size}
        for path in sorted(files)
    }
    manifest = {"version": VERSION, "files": entries, **facts}
    write_json(folder / NAME, manifest)
    return manifest


def read_manifest(folder: Path, verify: bool = False) -> dict[str, Any]:
    """The manifest of a complete folder.

    Args:
        folder: The folder to open.
        verify: Also hash every file again.

    Raises:
        PipelineError: No manifest, another schema version, or files missing or changed.
    """
    if not (folder / NAME).is_file():
        raise PipelineError(f"{folder}: no {NAME}, so it is not complete; run the stage that writes it again")
    manifest: dict[str, Any] = read_json(folder / NAME)
    if manifest.get("version") != VERSION:
        raise PipelineError(f"{folder / NAME}: version {manifest.get('version')}; expected {VERSION}; run again")
    try:
        entries = [(name, entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()]
    except KeyError as error:
        raise PipelineError(f"{folder / NAME}: lacks {error}, so it was changed; run the stage again") from error
    problems = []
    for name, size, sha256 in entries:
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing, though the manifest lists it; run the stage again")
        elif path.stat().st_size != size or (verify and hash_file(path) != sha256):
            problems.append(f"{path}: changed since it was written; run the stage again")
    raise_all(problems, str(folder))
    return manifest


def hash_folder(folder: Path) -> str:
    """One hash over names and contents of all files below a folder, 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{hash_file(path)}\n".encode())
    return digest.hexdigest()
