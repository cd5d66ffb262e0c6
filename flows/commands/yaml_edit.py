"""Changes one value in the text of a YAML file; comments, order, quotes and all other lines stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from flows.wiring.yaml_file import Loader

WIDEST = 2**31


def set_value(text: str, keys: Sequence[str], value: Any) -> str:
    """The text with a value at a place; sections on the way that are not there are added, in flow style.

    Args:
        text: A mapping, as YAML.
        keys: Where: names of mappings, positions in lists.
        value: What JSON has a form for.

    Raises:
        ValueError: There is no such place: a position beyond a list, a name in a list, or a key below a plain value.

    Example:
        ``set_value("a: {b: 1}   # one", ["a", "b"], 20)`` is ``a: {b: 20}  # one``.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return f"{text.rstrip()}\n{_pair(keys[0], _nest(keys[1:], value))}\n".lstrip()
    for depth, key in enumerate(keys):
        inner = _find(node, key, ".".join(keys[:depth]))
        if inner is None:
            assert isinstance(node, yaml.MappingNode)
            return _add(text, node, key, _nest(keys[depth + 1 :], value))
        node = inner
        if isinstance(node, yaml.ScalarNode) and _is_null(node) and depth + 1 < len(keys):
            return _replace(text, node, _nest(keys[depth + 1 :], value))
    return _replace(text, node, value)


def _find(node: yaml.Node, key: str, where: str) -> yaml.Node | None:
    """What stands under a key or at a position; None where a mapping has no such key."""
    if isinstance(node, yaml.MappingNode):
        pairs = [(name, inner) for name, inner in node.value if name.value == key]
        return _no_alias(pairs[0][1], pairs[0][0].end_mark.index, f"{where}.{key}") if pairs else None
    if isinstance(node, yaml.SequenceNode):
        if not key.isdecimal():
            raise ValueError(f"{where} is a list; expected a position in place of {key!r}")
        if int(key) >= len(node.value):
            positions = f"positions 0 to {len(node.value) - 1}" if node.value else "no position"
            raise ValueError(f"{where} has {positions}; found {key}")
        before = node.value[int(key) - 1].start_mark.index + 1 if int(key) else node.start_mark.index
        return _no_alias(node.value[int(key)], before, f"{where}.{key}")
    raise ValueError(f"{where} is a plain value; expected a section to hold {key!r}")


def _no_alias(node: yaml.Node, before: int, where: str) -> yaml.Node:
    """The node, which an alias has from a place before."""
    if node.start_mark.index < before:
        raise ValueError(f"{where.lstrip('.')} is an alias of another place; change it there, by hand")
    return node


def _is_null(node: yaml.ScalarNode) -> bool:
    return str(node.tag).endswith(":null")


def _nest(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _replace(text: str, node: yaml.Node, value: Any) -> str:
    start, end = node.start_mark.index, _end(text, node)
    new = write_flow(value)
    if start == end:  # nothing stands there
        new = f" {new}"
    # A comment behind keeps its column where it can.
    behind = re.match(r"( +)#", text[end:])
    if behind and "\n" not in text[start:end]:
        spaces = max(min(2, len(behind[1])), len(behind[1]) - (len(new) - (end - start)))
        return text[:start] + new + " " * spaces + text[end + len(behind[1]) :]
    return text[:start] + new + text[end:]


def _add(text: str, node: yaml.MappingNode, key: str, value: Any) -> str:
    """The text with a new key at the end of a mapping."""
    if node.flow_style:
        if not node.value:
            return _replace(text, node, {key: value})
        end = _end(text, node.value[-1][1])
        return f"{text[:end]}, {_pair(key, value)}{text[end:]}"
    end = _end(text, node.value[-1][1])
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    if text[:line_end].endswith("\r"):
        line_end -= 1
    newline = "\r\n" if "\r\n" in text else "\n"
    return f"{text[:line_end]}{newline}{' ' * node.start_mark.column}{_pair(key, value)}{text[line_end:]}"


def _end(text: str, node: yaml.Node) -> int:
    """Where the text of a node ends, without the blank lines and comments behind it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[:end].rstrip())
    return end


def _pair(key: str, value: Any) -> str:
    return write_flow({key: value})[1:-1]


def write_flow(value: Any) -> str:
    """A value on one line, such as stands within brackets too."""
    options: Any = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": WIDEST}
    text = yaml.safe_dump([value], **options).strip()[1:-1]
    # PyYAML writes for readers of YAML 1.1, who take other plain texts for numbers.
    read = yaml.load(f"[{text}]", Loader)
    return text if json.dumps(read) == json.dumps([value]) else json.dumps(value, ensure_ascii=False)
