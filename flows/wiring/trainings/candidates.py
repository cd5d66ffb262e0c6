"""The params of the trials of a search, by the same reader as the file's."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flows.wiring import artifacts
from flows.wiring.params import Params, validate
from flows.wiring.params.places import place, put
from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import hash_file
from tasks.search.params import ParamSearch
from tasks.search.space import Labels, Range, list_changes, list_ends, to_value

# Combinations of values that are checked before the first trial; each takes about a millisecond.
MOST_CHECKED = 500
SHOWN = 5
ROWS = "fine_tuning.validation_rows"
LENGTH = "training_setup.max_tokens"


@dataclass(frozen=True)
class Candidates:
    """The params file with the values of trials in it.

    Attributes:
        values: Keys and values of the file.
        params: The file as read, with defaults.
        settings: What is searched.
    """

    values: Mapping[str, Any]
    params: Params
    settings: ParamSearch

    def params_with(self, changes: Mapping[str, Any]) -> Params:
        """All params of a trial.

        Raises:
            PipelineError: They do not go together.
        """
        values: Any = self.values
        for key, value in changes.items():
            keys, placed = place(values, self._present, key.split("."), value)
            values = put(values, keys, placed)
        found = ", ".join(f"{key}={json.dumps(value)}" for key, value in changes.items())
        return validate(values, f"search, {found}")

    @cached_property
    def _present(self) -> dict[str, Any]:
        return self.params.model_dump(mode="json")

    def check(self) -> None:
        """Refuse a space with keys or values that params cannot have.

        Raises:
            PipelineError: Some cannot be; each problem is told once, with the first combination that has it.
        """
        problems: dict[str, str] = {}
        for labels in self._combinations():
            try:
                self.params_with(list_changes(self.settings.space, labels))
            except PipelineError as error:
                first, *more = str(error).splitlines()
                for line in [line.removeprefix("  - ") for line in more] or [first]:
                    problems.setdefault(line.partition(": ")[2], line)
            except (ValueError, TypeError, IndexError) as error:
                problems.setdefault(str(error), f"search.space: {error}")
        shown = list(problems.values())
        if len(shown) > SHOWN:
            shown = [*shown[:SHOWN], f"and {len(shown) - SHOWN} more"]
        raise_all(shown, "search.space")

    def _combinations(self) -> Iterator[Labels]:
        """All combinations of listed values and bounds, or so many of them drawn by chance."""
        keys = list(self.settings.space)
        ends = [list_ends(self.settings.space[key]) for key in keys]
        count = 1
        for labels in ends:
            count *= len(labels)
        if count <= MOST_CHECKED:
            for combination in itertools.product(*ends):
                yield dict(zip(keys, combination, strict=True))
            return
        draw = random.Random(0)
        for number in range(MOST_CHECKED):
            # Each value of each key comes up, whatever is drawn of the others.
            yield {key: labels[number % len(labels)] if number < len(labels) else draw.choice(labels)
                   for key, labels in zip(keys, ends, strict=True)}  # fmt: skip

    def largest(self, key: str, value: int) -> int:
        """The largest value that any trial has of a key; ``value`` where it is not searched."""
        dimension = self.settings.space.get(key)
        if dimension is None:
            return value
        if isinstance(dimension, Range):
            return int(dimension.high)
        return max(int(to_value(dimension, label)) for label in list_ends(dimension))

    @property
    def longest(self) -> int:
        return self.largest(LENGTH, self.params.training_setup.max_tokens)

    @property
    def validation_rows(self) -> int:
        return self.largest(ROWS, self.params.fine_tuning.validation_rows)

    def describe_origin(self) -> dict[str, str]:
        """Hashes of what decides about the losses of trials, beside their own values."""
        searched = tuple(key.removesuffix(".name") for key in self.settings.space)
        fixed = {
            key: value
            for section in ("training_setup", "fine_tuning")
            for key, value in _flatten(self._present[section], f"{section}.").items()
            if not any(key == name or key.startswith(f"{name}.") for name in searched)
        }
        return {
            "space": _hash(self.settings.model_dump(mode="json")["space"]),
            "data": _hash([hash_file(path) for path in (artifacts.TRAIN, artifacts.VALIDATION)]),
            "base": hash_file(artifacts.INITIAL / "manifest.json"),
            "params": _hash(fixed),
        }


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
