"""Places in the values of ``params.yaml``: names of sections and positions in lists, separated by points."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

MISSING: Any = object()


def find(values: Any, keys: Sequence[str]) -> Any:
    """What stands at a place; `MISSING` where there is no such place."""
    for key in keys:
        if isinstance(values, dict) and key in values:
            values = values[key]
        elif isinstance(values, list) and key.isdecimal() and int(key) < len(values):
            values = values[int(key)]
        else:
            return MISSING
    return values


def place(values: Any, present: Any, keys: list[str], new: Any) -> tuple[list[str], Any]:
    """Where to write a value, and what.

    A list that only the defaults have is written whole, and a choice that only they have gets its name.

    Raises:
        ValueError: The list has no such position.
    """
    for depth in range(1, len(keys)):
        default = find(present, keys[:depth])
        if find(values, keys[:depth]) is not MISSING:
            continue
        if isinstance(default, list):
            if find(default, keys[depth : depth + 1]) is MISSING:
                raise ValueError(f"{'.'.join(keys[:depth])} has {len(default)} entries; found position {keys[depth]}")
            return keys[:depth], put(default, keys[depth:], new)
        if isinstance(default, dict) and "name" in default and keys[depth:] != ["name"]:
            return keys[:depth], put({"name": default["name"]}, keys[depth:], new)
    return keys, new


def put(values: Any, keys: Sequence[str], new: Any) -> Any:
    """A copy of values with another one at a place."""
    if not keys:
        return new
    copied = copy.copy(values) if isinstance(values, dict | list) else {}
    if isinstance(copied, list):
        copied[int(keys[0])] = put(copied[int(keys[0])], keys[1:], new)
    else:
        copied[keys[0]] = put(copied.get(keys[0]), keys[1:], new)
    return copied


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted keys; lists stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
