"""Pins: the hash that the content of a source must have."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.source import Part, Source
from tasks.corpus.reading.sources.stores import is_remote

log = logging.getLogger(__name__)

WATCHED = Path("data/raw")


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
    require_pinned(source, place, found)
    if source.sha256 is None:
        warn_unwatched(f'source "{title}"', place, found, root)


def warn_unwatched(what: str, place: str, found: str, root: Path) -> None:
    """Say so where DVC does not watch what this stage reads.

    Args:
        what: What reads it, for the message.
        place: Where it is, as configured.
        found: Hash of its content.
        root: Root of the repository.
    """
    archive = place.rpartition("::")[2]
    if is_remote(archive) or not (root / archive).resolve().is_relative_to((root / WATCHED).resolve()):
        log.warning(
            "%s: %s lies outside %s, so DVC does not watch it and a change goes unnoticed; "
            "move it there or pin it with sha256: %s",
            what,
            place,
            WATCHED,
            found,
        )


def require_pinned(source: Source, place: str, found: str, verb: str = "has") -> None:
    """Compare a hash with the pin of a source, if it has one.

    Raises:
        PipelineError: The content is not the pinned one.
    """
    if source.sha256 is not None and source.sha256 != found:
        raise PipelineError(
            f'source "{source.title or source.name}": {place} {verb} sha256 {found}; pinned is {source.sha256}; '
            "restore the content, or pin the new hash if the change is wanted"
        )


def check_row_pin(source: Source, place: str, parts: Iterable[Part]) -> Iterator[Part]:
    """The parts of a source without files; after the last, the hash over their rows is compared with its pin.

    Raises:
        PipelineError: The rows are not the pinned ones.
    """
    if source.sha256 is None:
        yield from parts
        return
    import orjson

    digest = hashlib.sha256()
    for part in parts:
        for row in (*part.items, *part.broken):
            digest.update(orjson.dumps([part.file, row], default=repr) + b"\n")
        yield part
    require_pinned(source, place, digest.hexdigest())


def combine_hashes(hashes: Sequence[str]) -> str:
    """One hash for a source: that of its only file, or over those of its files."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
