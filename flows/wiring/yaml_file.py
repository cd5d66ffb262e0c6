"""Reads the YAML files of a checkout, by the rules of YAML 1.2 that DVC reads them by.

PyYAML alone follows YAML 1.1: ``no`` and ``off`` are false, ``2e-4`` is text, ``12:30`` is 750, ``2024-01-31`` a date,
and of a key that stands twice the last one counts without a word. Here the first two are what they look like, the next
two are text, and a key that stands twice is an error, as it is for DVC.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tasks.contracts.errors import PipelineError, raise_all

LARGEST_BYTES = 8 * 1024**2
DEEPEST = 50
Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE = "tag:yaml.org,2002:merge"
# The core schema of YAML 1.2.2, section 10.3.2; underscores in numbers are YAML 1.1's and were understood before.
PLAIN = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


class Loader(Base):
    """PyYAML's safe loader with the plain values of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}


for _name, (_pattern, _first) in PLAIN.items():
    Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), [c.strip("\0") for c in _first]
    )
Loader.add_implicit_resolver(MERGE, re.compile("^<<$"), ["<"])
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: _read_whole(loader.construct_scalar(node)))
Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: _read_float(loader.construct_scalar(node)))


def _read_whole(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits[:2] in ("0o", "0x") else int(digits)


def _read_float(text: str) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", text.replace("_", "").lower()))


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; none where it is empty.

    Raises:
        PipelineError: The file is missing, cannot be read, is no UTF-8 or no YAML, holds something else than keys, or
            holds a key twice; the line and the next step are named.
    """
    text = read_text(path)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=Base):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise PipelineError(
                    f"{path}:{line}: nested more than {DEEPEST} levels deep; expected sections with keys"
                )
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                raise_all(list_repeated(node, path), str(path))
            values = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise PipelineError(describe_fault(path, text, error)) from error
    except (ValueError, OverflowError) as error:
        raise PipelineError(f"{path}: not readable ({error}); correct that value") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else f"the text or number {str(values)[:40]!r}"
        raise PipelineError(f"{path}: holds {kind}; expected sections with keys, such as `evaluation:`")
    return values


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        PipelineError: It is missing, no file, not to be read, too large, or no UTF-8.
    """
    try:
        if path.is_dir():
            raise PipelineError(f"{path}: is a folder; expected a YAML file, move the folder away")
        if not path.exists():
            target = f", a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
            raise PipelineError(f"{path}: missing{target}; run from the repository's root, where it lies")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise PipelineError(
                f"{path}: {size / 1024**2:,.0f} MiB; expected at most {LARGEST_BYTES // 1024**2} MiB of settings, "
                "look whether data were written into it"
            )
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PipelineError(f"{path}: cannot be read ({reason}); see to its permissions (chmod u+r)") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{path}:{line}: no UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from error


def list_repeated(node: Any, path: Path) -> list[str]:
    """A line for each key that stands twice in one mapping, with both places."""
    problems = []
    waiting, seen = [(node, "")], set[int]()
    while waiting:
        node, where = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{where}{index}.") for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first = dict[tuple[str, str], int]()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                waiting.append((value, f"{where}{name}."))
                if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                    line = key.start_mark.line + 1
                    if before := first.get((key.tag, name)):
                        problems.append(
                            f"{path}:{line}: {where}{name} stands twice, first in line {before}; keep one of them"
                        )
                    first.setdefault((key.tag, name), line)
    return problems


def describe_fault(path: Path, text: str, error: yaml.YAMLError) -> str:
    """One line: where, what, and how to mend it."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or " ".join(str(error).split())
    lines = text.splitlines()
    for number, each in enumerate(lines, 1):
        if each.startswith(("<<<<<<< ", ">>>>>>> ")):
            return f"{path}:{number}: the mark of a merge conflict; resolve it with git"
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        return f"{where}: a tab among the spaces at the line's start; indent with spaces"
    if "document" in problem and "document" in str(getattr(error, "context", "")):
        return f"{where}: a second document begins here (`---`); expected one"
    return f"{where}: not YAML ({problem}); correct that line"
