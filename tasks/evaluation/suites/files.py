"""Rows of local files, for suites."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError

_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
_PACKED = {".gz": gzip.decompress, ".xz": lzma.decompress}


def read_rows(place: str) -> list[dict[str, Any]]:
    """The rows of a file, or of all files of a folder in the order of their names.

    JSON Lines; JSON with a list of objects or of texts, or with one under a key; CSV and TSV with a header; text, a row
    of one ``text`` a line. Any of them may be packed by gzip or xz.

    Args:
        place: A file or a folder.

    Raises:
        PipelineError: There is nothing, or a file is none of these.
    """
    path = Path(place)
    if not path.exists():
        raise PipelineError(f"{place}: there is no such file or folder; correct files in evaluation.suites")
    paths = sorted(one for one in path.iterdir() if _kind(one) in _KINDS) if path.is_dir() else [path]
    rows = [row for one in paths for row in _read(one)]
    if not rows:
        raise PipelineError(f"{place}: no rows; expected JSON, JSON Lines, CSV, TSV or text; correct files")
    return rows


def need_columns(row: dict[str, Any], columns: tuple[str, ...], place: str, number: int) -> None:
    """Refuse a row that lacks a column.

    Raises:
        PipelineError: It lacks one.
    """
    missing = [name for name in columns if row.get(name) is None]
    if missing:
        found = ", ".join(sorted(map(str, row))) or "nothing"
        raise PipelineError(f"{place}: row {number} has no {' and no '.join(missing)} (it has {found}); mend the file")


def _kind(path: Path) -> str:
    """The last ending of a file that says what is in it."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in _PACKED else path.suffix.lower()


def _read(path: Path) -> Iterator[dict[str, Any]]:
    kind = _kind(path)
    if kind not in _KINDS:
        raise PipelineError(f"{path}: expected one of {', '.join(_KINDS)}, packed by gzip or xz or not")
    try:
        content = _PACKED.get(path.suffix.lower(), bytes)(path.read_bytes()).decode("utf-8-sig")
        if kind in (".csv", ".tsv"):
            yield from csv.DictReader(io.StringIO(content, newline=""), delimiter="\t" if kind == ".tsv" else ",")
        elif kind == ".txt":
            yield from ({"text": line} for line in content.splitlines() if line.strip())
        elif kind == ".json":
            yield from _find_rows(json.loads(content), path)
        else:
            # Not splitlines: a text may hold line separators that are no line breaks of the file.
            for number, line in enumerate(content.split("\n"), start=1):
                if line.strip():
                    yield _need_object(json.loads(line), path, number)
    except (OSError, EOFError, ValueError, RecursionError, lzma.LZMAError, csv.Error) as error:
        raise PipelineError(f"{path}: cannot be read ({str(error).splitlines()[0]}); mend the file") from error


def _need_object(value: Any, path: Path, number: int) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise PipelineError(f"{path}:{number}: {json.dumps(value)[:60]}; expected a JSON object; mend the line")


def _find_rows(value: Any, path: Path) -> list[dict[str, Any]]:
    inner = value.values() if isinstance(value, dict) else [value]
    lists = [found for found in inner if isinstance(found, list)]
    for found in lists:
        if all(isinstance(row, dict) for row in found):
            return found
        if all(isinstance(row, str) for row in found):
            return [{"text": row} for row in found]
    raise PipelineError(f"{path}: no list of objects in it; expected one, or one under a key")
