"""Rows of local files as a data set of the harness, for the tasks here; no row is part of this project.

The folder is told by the params, by ``--metadata '{"files": "FOLDER"}'`` of the harness's own command line, or by the
environment variable ``HEPTUNE_BENCHMARKS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.evaluation.suites.files import read_rows

FILES = "HEPTUNE_BENCHMARKS"


def load(file: str, files: str = "", shape: str = "rows", **_: Any) -> dict[str, Any]:
    """The rows of a file as the split ``test``.

    Args:
        file: The file, below the folder; a packed one beside it is taken too.
        files: The folder.
        shape: How the file is laid out, see `SHAPES`.

    Raises:
        PipelineError: No folder is told, or the file is not there or cannot be read.
    """
    from datasets import Dataset

    folder = files or os.environ.get(FILES, "")
    if not folder:
        raise PipelineError(f"{file}: where is it? set files, or {FILES}, to the folder that holds it")
    names = [file, f"{file}.gz", f"{file}.xz"]
    path = next((Path(folder, name) for name in names if Path(folder, name).is_file()), None)
    if path is None:
        raise PipelineError(f"{Path(folder, file)} is not there, packed or not; put it there, or correct files")
    return {"test": Dataset.from_list(list(SHAPES[shape](read_rows(str(path)))))}


def _rows(rows: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    yield from rows


def _squad(rows: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Articles of SQuAD as questions; those of an article are one cluster."""
    for article in rows:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield {
                    "title": article["title"].replace("_", " "),
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": list(dict.fromkeys(one["text"] for one in question["answers"])),
                    "cluster": article["title"],
                }


def _instructions(rows: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """IFEval: the arguments of the instructions have one set of names, absent ones being null."""
    names = sorted({name for row in rows for each in row["kwargs"] for name in each})
    for row in rows:
        yield {**row, "kwargs": [{name: each.get(name) for name in names} for each in row["kwargs"]]}


SHAPES: dict[str, Callable[[list[dict[str, Any]]], Iterator[Mapping[str, Any]]]] = {
    "rows": _rows,
    "squad": _squad,
    "instructions": _instructions,
}
