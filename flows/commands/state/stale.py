"""What is stale, and why: asked of DVC, and of the params that ``dvc.lock`` remembers."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.wiring import artifacts
from flows.wiring.staleness import STAGES
from flows.wiring.versions.dvc_repository import open_repository
from flows.wiring.yaml_file import read_yaml
from tasks.contracts.errors import PipelineError

READ_AGAIN, SETTLED_S = 3, 0.2
CODE = ("flows/", "tasks/")
ABSENT: Any = object()
# Of many changed keys or files so many are named.
NAMED = 5


@dataclass(frozen=True)
class StageState:
    """Whether a stage is up to date.

    Attributes:
        stage: Its name.
        reasons: What has changed since it ran; empty where nothing has.
        after: Stale stages that it reads from; it will run too if these write something else.
    """

    stage: str
    reasons: list[str]
    after: list[str]

    @property
    def state(self) -> str:
        """``stale``, ``waits`` (for what it reads) or ``up to date``."""
        return "stale" if self.reasons else "waits" if self.after else "up to date"


def inspect_stages(values: Mapping[str, Any] | None = None) -> list[StageState]:
    """The seven stages, in DVC's order.

    DVC's locks are not taken: a pipeline that starts meanwhile would find the checkout busy and fail.

    Args:
        values: Params to compare with, instead of those in the file.

    Raises:
        PipelineError: DVC cannot read ``dvc.yaml``.
    """
    from dvc.exceptions import DvcException
    from dvc.stage import Stage

    status_without_lock = inspect.unwrap(Stage.status)
    values = read_yaml(artifacts.PARAMS) if values is None else values
    locked = read_locked()
    stages = read_yaml(Path("dvc.yaml")).get("stages", {})
    states: dict[str, StageState] = {}
    try:
        with open_repository() as repo:
            for name in STAGES:
                if name not in stages:
                    continue
                reasons = ["never run here"] if name not in locked else []
                if not reasons:
                    changes = status_without_lock(repo.stage.load_one(name=name)).get(name, [])
                    reasons = [*changed_params(locked[name], stages[name], values), *some(changed_files(changes))]
                after = [
                    other for other in states if states[other].state != "up to date" and reads(stages, name, other)
                ]
                states[name] = StageState(name, reasons, after)
    except DvcException as error:
        raise PipelineError(" ".join(str(error).split())) from error
    return list(states.values())


def read_locked() -> dict[str, Any]:
    """The stages of ``dvc.lock``; DVC writes the file in pieces, so that a broken one is read again.

    Raises:
        PipelineError: It stays broken.
    """
    for _ in range(READ_AGAIN):
        try:
            return dict(read_yaml(artifacts.LOCK).get("stages", {})) if artifacts.LOCK.is_file() else {}
        except PipelineError:
            time.sleep(SETTLED_S)
    return dict(read_yaml(artifacts.LOCK).get("stages", {}))


def changed_params(locked: Mapping[str, Any], stage: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """A line for each changed key of the sections that a stage depends on."""
    before = locked.get("params", {}).get(str(artifacts.PARAMS), {})
    lines = []
    for section in stage.get("params", []):
        now: Any = values
        for key in section.split("."):
            now = now.get(key, ABSENT) if isinstance(now, Mapping) else ABSENT
        lines += list(differences(section, before.get(section, ABSENT), now))
    yield from some(lines)


def some(lines: Iterable[str]) -> Iterator[str]:
    """The first lines, and one that counts the others."""
    lines = list(lines)
    yield from lines[:NAMED]
    if len(lines) > NAMED:
        yield f"and {len(lines) - NAMED} more"


def differences(key: str, before: Any, now: Any) -> Iterator[str]:
    """A line for each key that differs, down to single values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            yield from differences(f"{key}.{name}", before.get(name, ABSENT), now.get(name, ABSENT))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from differences(f"{key}.{index}", old, new)
    elif before is not now and before != now:
        yield f"{key}: {show(before)} -> {show(now)}"


def show(value: Any) -> str:
    from flows.commands.yaml_edit import write_flow

    if value is ABSENT:
        return "(default)"
    text = write_flow(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def changed_files(changes: Sequence[Any]) -> Iterator[str]:
    """A line for each changed file, as DVC's status has it; params have lines of their own."""
    for change in changes:
        if isinstance(change, str):
            yield change
            continue
        for kind, paths in change.items():
            for path, what in paths.items():
                if path == str(artifacts.PARAMS):
                    continue
                if kind == "changed outs":
                    yield f"{path} is not what it wrote ({what})"
                else:
                    yield f"{'code' if path.startswith(CODE) else 'file'} {what}: {path}"


def reads(stages: Mapping[str, Any], reader: str, writer: str) -> bool:
    """Whether a stage depends on an out of another."""
    made = [out if isinstance(out, str) else next(iter(out)) for out in outs_of(stages[writer])]
    return any(
        f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/")
        for dep in stages[reader].get("deps", [])
        for out in made
    )


def outs_of(stage: Mapping[str, Any]) -> list[Any]:
    return [*stage.get("outs", []), *stage.get("metrics", [])]
