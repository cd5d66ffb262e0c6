"""What ``-S`` changes, value by value: not a whole section where one of its values differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.wiring import artifacts

DEFAULT = "default"


@dataclass(frozen=True)
class ParamChange:
    """One changed key.

    Attributes:
        key: Names and positions from the top level, separated by points.
        old: What was there, as the file has it; of a choice that only the defaults have its name, of another section
            that only they have ``default``; None where there was nothing.
        new: What is there now.
    """

    key: str
    old: Any
    new: Any

    @property
    def values(self) -> dict[str, Any]:
        return {"key": self.key, "old": self.old, "new": self.new}

    def __str__(self) -> str:
        from flows.commands.yaml_edit import write_flow

        return f"{artifacts.PARAMS}: {self.key}: {write_flow(self.old)} -> {write_flow(self.new)}"


@dataclass(frozen=True)
class ParamValues:
    """The params at one time.

    Attributes:
        written: Values of the file.
        resolved: All values, the defaults too.
    """

    written: Mapping[str, Any]
    resolved: Mapping[str, Any]


def list_changes(key: str, before: ParamValues, after: ParamValues) -> Iterator[ParamChange]:
    """The values that differ at a key and below it.

    Args:
        key: Names and positions, separated by points.
        before: The params without the change.
        after: The params with it.
    """
    from flows.wiring.params.places import MISSING, find

    place = key.split(".")
    old, new = find(before.resolved, place), find(after.resolved, place)
    if old is not MISSING and new is not MISSING and json.dumps(old) == json.dumps(new):
        return
    if parts := list_parts(old, new):
        for part in parts:
            yield from list_changes(f"{key}.{part}", before, after)
    else:
        yield ParamChange(key, describe(place, before), describe(place, after))


def list_parts(old: Any, new: Any) -> list[str]:
    """Names or positions below two values of the same kind, which can be compared one by one; none for others."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name"):
        return list(dict.fromkeys((*old, *new)))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        if all(isinstance(one, dict) and isinstance(other, dict) for one, other in pairs):
            return list(map(str, range(len(old))))
    return []


def describe(place: list[str], params: ParamValues) -> Any:
    """What stands at a place, in few words where it is all defaults."""
    from flows.wiring.params.places import MISSING, find

    found = find(params.resolved, place)
    if found is MISSING:
        return None
    if not isinstance(found, dict | list):
        return found
    written = find(params.written, place)
    if written is not MISSING:
        return written
    if isinstance(found, dict):
        return {"name": found["name"]} if "name" in found else DEFAULT
    return found if all(not isinstance(one, dict) for one in found) else DEFAULT
