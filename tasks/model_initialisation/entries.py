"""What lies in a model's folder, before anything in it is opened.

A folder comes from strangers. A symbolic link may lead to a file that is none of theirs, and a pipe or a device never
ends when it is read. Only regular files inside the folder are opened, of a size that their kind can have; a link of
the hub's own cache, from a snapshot into its blobs, is inside.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAXIMUM_ENTRIES = 10_000
# Of files that are read as a whole; published models have none that is a tenth as large, Gemma's tokenizer aside.
MAXIMUM_BYTES = {
    **dict.fromkeys(
        (
            "README.md",
            "added_tokens.json",
            "chat_template.jinja",
            "chat_template.json",
            "config.json",
            "generation_config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "special_tokens_map.json",
            "tokenizer_config.json",
        ),
        16_000_000,
    ),
    **dict.fromkeys(("merges.txt", "model.safetensors.index.json", "vocab.json"), 64_000_000),
    **dict.fromkeys(("tokenizer.json", "tokenizer.model"), 256_000_000),
}


def find_unsafe_entries(folder: Path) -> list[str]:
    """What must not be read or followed in a folder, a sentence each; empty where all is in order.

    Hidden entries are passed over: nothing reads them, and they are never copied.

    Args:
        folder: A model's folder.
    """
    allowed = [folder.resolve()]
    if folder.parent.name == "snapshots":  # of the hub's cache, whose snapshots link to the blobs beside them
        allowed.append((folder.parent.parent / "blobs").resolve())
    problems: list[str] = []
    for number, path in enumerate(_walk(folder)):
        if number == MAXIMUM_ENTRIES:
            return [*problems, f"more than {MAXIMUM_ENTRIES:,} entries; a model's folder has some dozens"]
        if problem := _find_problem(path, path.relative_to(folder).as_posix(), allowed):
            problems.append(problem)
    return problems


def _walk(folder: Path) -> Iterator[Path]:
    """Entries below a folder that are not hidden, sorted; folders behind links are named but not entered."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _find_problem(path: Path, name: str, allowed: list[Path]) -> str:
    try:
        if path.is_symlink():
            target = path.resolve(strict=True)
            if not any(target.is_relative_to(place) for place in allowed):
                return f"{name}: a link that leads out of the folder; copy the folder with `cp -rL` if you trust it"
            if target.is_dir():
                return f"{name}: a link to a folder; put the files themselves there"
        status = path.stat()
    except (OSError, RuntimeError):  # a circle of links
        return f"{name}: a link that leads nowhere; remove it, or put the file there"
    if stat.S_ISDIR(status.st_mode):
        return ""
    if not stat.S_ISREG(status.st_mode):
        return f"{name}: neither a file nor a folder (a pipe, a socket or a device); remove it"
    largest = MAXIMUM_BYTES.get(path.name)
    if largest is not None and status.st_size > largest:
        return f"{name}: {status.st_size:,} bytes; at most {largest:,} are read of such a file; remove it"
    return ""


def read_object(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON object of a model's folder, and what is wrong with the file (empty when nothing is).

    Args:
        path: The file; one that is missing is an empty object.
    """
    import orjson

    if not path.is_file():
        return {}, ""
    try:
        content = orjson.loads(path.read_bytes())  # refuses what is not UTF-8, NaN, and nesting beyond its limit
    except orjson.JSONDecodeError as error:
        return {}, f"{path.name}: not JSON ({error}); download the model again"
    if not isinstance(content, dict):
        return {}, f"{path.name}: a JSON {type(content).__name__}, expected an object; download the model again"
    return content, ""
