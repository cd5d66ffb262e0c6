"""``-S section.key=value``: changes of ``params.yaml`` from the command line, checked before they are written.

They are written to the file, because that is what DVC sees; comments and order stay.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.param_changes import ParamChange, ParamValues, list_changes
from flows.commands.terminal import console
from flows.wiring import artifacts
from flows.wiring.lock import one_at_a_time
from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import write_bytes

if TYPE_CHECKING:
    from flows.wiring.params import Params

SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-S",
        metavar="SECTION.KEY=VALUE",
        help="Change params.yaml first, such as training_setup.epochs=3; several times for several keys.",
    ),
]


@dataclass(frozen=True)
class PlannedChanges:
    """What ``-S`` asks for, checked.

    Attributes:
        changes: What differs from the file.
        text: The file with the changes.
        values: Its values with the changes, without defaults.
        params: All params with the changes.
    """

    changes: list[ParamChange]
    text: str
    values: Mapping[str, Any]
    params: Params

    def write(self) -> None:
        """Write the file, if anything changes."""
        if self.changes:
            # A link stays one.
            from flows.wiring.params import read_params

            write_bytes(artifacts.PARAMS.resolve(), self.text.encode())
            read_params.cache_clear()


def apply_changes(assignments: Sequence[str] | None, wait: bool = False) -> list[dict[str, Any]]:
    """Write the changes to the file and say what they are; no pipeline may be at work.

    Args:
        assignments: ``section.key=value`` each.
        wait: Wait for another pipeline instead of refusing.

    Returns:
        Key, old and new value of each change.

    Raises:
        PipelineError: Some are not possible, and none is written; or another pipeline is at work.
    """
    if not assignments:
        return []
    with one_at_a_time(wait):
        planned = plan_changes(assignments)
        planned.write()
    for change in planned.changes:
        console.print(str(change))
    if not planned.changes:
        console.print(f"{artifacts.PARAMS}: is so already")
    return [change.values for change in planned.changes]


def plan_changes(assignments: Sequence[str] | None, numbers: Collection[str] = ()) -> PlannedChanges:
    """Check the changes against the file and against what every key may be.

    Args:
        assignments: ``section.key=value`` each; the value as YAML has it, so that ``null``, lists and mappings are
            possible.
        numbers: Keys that take numbers although they hold a text, such as ``auto``; found out by reading them.

    Raises:
        PipelineError: Some of them are not possible; all problems are listed.
    """
    import yaml

    from flows.wiring.params import read_params, validate
    from flows.wiring.params.places import find, place, put
    from flows.wiring.yaml_file import Loader, read_text, read_yaml

    values = read_yaml(artifacts.PARAMS)
    if not assignments:
        return PlannedChanges([], "", values, read_params())
    from flows.commands.yaml_edit import set_value

    text = read_text(artifacts.PARAMS)
    present = read_params().model_dump(mode="json")
    before, problems, seen = ParamValues(values, present), [], list[str]()
    for assignment in assignments:
        key, _, written = assignment.partition("=")
        try:
            if key in seen:
                raise ValueError(f"{key} is set twice; keep one of them")
            seen.append(key)
            old, new = find(present, key.split(".")), read_value(assignment)
            new = new if key in numbers else keep_type(old, new, written)
            keys, placed = place(values, present, key.split("."), new)
            text = set_value(text, keys, placed)
            values = put(values, keys, placed)
        except (ValueError, yaml.YAMLError) as error:
            problems.append(f"-S {assignment}: {' '.join(str(error).split())}")
    source = f"{artifacts.PARAMS} with -S"
    try:
        params = validate(values, source)
    except PipelineError as error:
        first, *more = str(error).splitlines()
        problems += [line.removeprefix("  - ") for line in more] or [first]
    raise_all(list(dict.fromkeys(problems)), source)
    if json.dumps(yaml.load(text, Loader)) != json.dumps(values):
        raise PipelineError(f"{artifacts.PARAMS}: {', '.join(seen)} cannot be changed from outside; change it by hand")
    after = ParamValues(values, params.model_dump(mode="json"))
    read_as_numbers = [key for key in seen if is_text_for_number(find(values, key.split(".")), after.resolved, key)]
    if read_as_numbers and not numbers:
        return plan_changes(assignments, read_as_numbers)
    changes = {change.key: change for key in seen for change in list_changes(key, before, after)}
    return PlannedChanges(list(changes.values()), text, values, params)


def read_value(assignment: str) -> Any:
    """The value of ``section.key=value``, by the rules that the file is read by.

    Raises:
        ValueError: No key or no value.
        yaml.YAMLError: The value is not YAML.
    """
    key, equals, written = assignment.partition("=")
    if not equals or not written or not all(key.split(".")):
        raise ValueError('expected section.key=value, such as training_setup.epochs=3; null and "" are values too')
    import yaml

    from flows.wiring.yaml_file import Loader

    return yaml.load(written, Loader)


def is_text_for_number(written: Any, resolved: Mapping[str, Any], key: str) -> bool:
    """Whether a text was written where a number is read: "2" for one of ``auto`` and whole numbers."""
    from flows.wiring.params.places import find

    return isinstance(written, str) and isinstance(find(resolved, key.split(".")), int | float)


def keep_type(old: Any, new: Any, written: str) -> Any:
    """A number or text as the same kind as what was there: 3 for 2.0 is 3.0, 1 for a text is "1"."""
    if isinstance(new, bool) or not isinstance(new, int | float | str):
        return written if isinstance(old, str) and isinstance(new, bool) else new
    if isinstance(old, str):
        return new if isinstance(new, str) else written
    if isinstance(old, float) and isinstance(new, int):
        return float(new)
    if type(old) is int and isinstance(new, float) and new.is_integer():
        return int(new)
    return new
