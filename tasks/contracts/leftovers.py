"""Which files below a folder are no data: hidden ones, what editors and systems leave behind, and notes about the data.

Every place that walks a folder asks here, so that a Jupyter checkpoint, a Finder file or a half-finished download is
never read as rows. A path that the user spells out is not judged.

Example:
    ``find_reason(".ipynb_checkpoints/faq.jsonl")`` is ``"hidden"``, ``find_reason("faq.jsonl")`` is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

# Reason to the patterns of names, in lower case; a name is the last part of a path, or a folder's above it.
NAMES = {
    "hidden": (".?*",),
    "lock or backup of an editor": (
        *("*~", "#*#", "~$*", "*.bak", "*.backup", "*.orig", "*.rej", "*.old", "*.swp", "*.swo"),
        *("*.autosave", "*.lock", "*.lck"),
    ),
    "of the operating system": ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "icon\r"),
    "unfinished download": (
        *("*.part", "*.partial", "*.tmp", "*.temp", "*.crdownload", "*.download", "*.aria2", "*.incomplete"),
        "*.filepart",
    ),
    "marker of another program": (
        *("_success", "_committed_*", "_started_*", "_delta_log", "_metadata", "_common_metadata", "_temporary"),
        *("_spark_metadata", "*.crc", "*.dvc", "__pycache__", "lost+found"),
        *("*.md5", "*.sha1", "*.sha256", "*.sha512", "md5sums*", "sha256sums*", "checksums.*"),
    ),
}
NOTES = "note about the data"
# In capitals only where the word may also name data, as source.txt beside target.txt does.
_NOTE = re.compile(
    r"((?i:readme|licen[cs]e)|SOURCES?|COPYING|NOTICE|AUTHORS|CITATION|CHANGELOG|ATTRIBUTION)"
    r"([._-][A-Za-z0-9_-]+)?(\.(?i:txt|md|rst|html?|pdf|cff|bib))?"
)
_WILD = re.compile(r"\[[^]]*\]|[*?]+")


def find_reason(path: str, notes: bool = True) -> str | None:
    """Why a file is no data; None for data.

    Args:
        path: Relative to the folder that is walked, with forward slashes.
        notes: Whether SOURCE, README, LICENSE and the like are no data either.
    """
    *folders, name = PurePosixPath(path).parts or ("",)
    for part in (*folders, name):
        folded = part.lower()
        for reason, patterns in NAMES.items():
            if any(fnmatchcase(folded, pattern) for pattern in patterns):
                return reason
    return NOTES if notes and _NOTE.fullmatch(name) else None


def is_asked_for(pattern: str, reason: str) -> bool:
    """Whether a glob names files of this kind itself, as ``*.bak`` and ``**/.cache/*.jsonl`` do."""
    parts = [part for part in PurePosixPath(pattern).parts if part != "**"]
    spelled = {_WILD.sub("x", name) for part in parts for name in (part, part.rstrip("*"))}
    return any(name and find_reason(name) == reason for name in spelled)


def walk_files(folder: Path, notes: bool = True) -> Iterator[tuple[Path, str | None]]:
    """Every file below a folder in the order of their names, with the reason why it is no data."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path, find_reason(path.relative_to(folder).as_posix(), notes)
