"""Files that params or ``dvc.yaml`` name and that are not there: told at once, before a stage starts.

Fields that name something to be read carry the mark `tasks.contracts.params.Reads`. What a stage of the user's own
makes is not missed, and what a URL or the hub names is not asked for.
"""

from __future__ import annotations

import difflib
import logging
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.yaml_file import read_yaml
from tasks.contracts.errors import raise_all
from tasks.contracts.params import ChecksFiles, Reads

logger = logging.getLogger(__name__)

SHOWN_NAMES = 5
WILDCARDS = "*?["
# Where files that a section names lie so that DVC watches them, and models; and the stages that read them. Those of
# data preparation are pinned by their sources, and a base by what model initialisation makes of it.
WATCHED = {
    "evaluation": (artifacts.SUITES, artifacts.JUDGES, "evaluation"),
    "training_setup": (artifacts.REWARD, artifacts.REWARD, "training_setup fine_tuning"),
}
EXPECTED = {
    "file": "a file",
    "folder": "a folder",
    "place": "a file or folder",
    "files": "a file, a folder or a glob",
    "hub": "a folder, or the name of a data set on the hub with its revision",
    "module": "a folder, or the name of an installed package",
    "database": "the file of a SQLite database",
}


def check_inputs(params: Params, stages: Sequence[str], sections: Sequence[str] | None = None) -> None:
    """Refuse to begin where something that is to be read is not there.

    Args:
        params: The params.
        stages: Stages that are about to run, whose declared dependencies are looked for.
        sections: Sections of params whose files are looked for; those of the stages by default.

    Raises:
        PipelineError: Something is missing; all of it is listed.
    """
    declared = read_yaml(artifacts.PIPELINE).get("stages") or {}
    made = [Path(out) for stage in declared.values() for out in list_outs(stage)]
    problems: dict[tuple[str, str], str] = {}
    unwatched: dict[str, tuple[str, str]] = {}
    for section in stages if sections is None else sections:
        watched = [Path(path) for path in list_dependencies(declared.get(section))]
        found = [marked for key, part in list_parts(params, section) for marked in find_marked(part, key)]
        for key, value, reads, owner in found:
            problem = find_problem(value, reads, owner)
            if problem and not is_made(value, made):
                problems.setdefault((value, problem), f"{artifacts.PARAMS}: {key}: {problem}")
            elif not problem and section in WATCHED and Path(value).exists() and not is_watched(value, watched):
                files, models, _ = WATCHED[section]
                place = f"move it into {models if reads.holds else files}"
                unwatched.setdefault(value, (key, "write what it holds in its place" if reads.inline else place))
    for name in stages:
        for path in list_dependencies(declared.get(name)):
            if "://" not in path and not Path(path).exists() and not is_made(path, made):
                problems.setdefault((path, ""), f"{path}: missing, and {name} reads it; {suggest(Path(path))}")
    raise_all(list(problems.values()), "files that are not there")
    for value, (key, cure) in unwatched.items():
        section = key.partition(".")[0]
        logger.warning(
            "%s: %s is not among what DVC watches for %s, so a change of it goes unnoticed; %s, or run "
            "`heptune run %s --force` after a change",
            key,
            value,
            section,
            cure,
            WATCHED[section][-1],
        )


def check_section(section: BaseModel, key: str) -> None:
    """Refuse to begin where something that a section reads is not there, whatever stages make.

    Args:
        section: The section.
        key: Its place in the params.

    Raises:
        PipelineError: Something is missing; all of it is listed.
    """
    found = [(place, find_problem(value, reads, owner)) for place, value, reads, owner in find_marked(section, key)]
    problems = [f"{artifacts.PARAMS}: {place}: {problem}" for place, problem in found if problem]
    raise_all(problems, "files that are not there")


def list_parts(params: Params, section: str) -> Iterator[tuple[str, Any]]:
    """A section of params and its key; and each of the phases of a training, which are written as what they change."""
    yield section, getattr(params, section, None)
    if section == "training_setup" and params.training_setup.phases:
        for number, phase in enumerate(params.training_setup.each_phase()):
            yield f"{section}.phases.{number}", phase


def find_marked(value: Any, key: str) -> Iterator[tuple[str, str, Reads, BaseModel]]:
    """Key, value, mark and section of every marked field that has a value, at any depth."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            mark = next((each for each in field.metadata if isinstance(each, Reads)), None)
            if mark and isinstance(inner, str | Path):
                yield f"{key}.{name}", str(inner), mark, value
            else:
                yield from find_marked(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from find_marked(item, f"{key}.{index}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from find_marked(item, f"{key}.{name}")


def find_problem(value: str, reads: Reads, owner: BaseModel) -> str | None:
    """What is wrong with a place, and what to write instead; None where it is there."""
    if getattr(owner, "optional", False):
        return None
    if reads.kind == "database":
        if not value.startswith("sqlite") or ":memory:" in value or not value.partition(":///")[2]:
            return None
        value = value.partition(":///")[2].partition("?")[0]
    value = value.rpartition("::")[2]  # the archive of what is inside one
    if "://" in value:
        return None
    try:
        problem = find_local_problem(value, reads, owner)
        return "; ".join(owner.find_unfit()) or None if problem is None and isinstance(owner, ChecksFiles) else problem
    except OSError as error:
        return f'"{value}" cannot be looked at ({error.strerror}); expected {EXPECTED[reads.kind]}'


def find_local_problem(value: str, reads: Reads, owner: BaseModel) -> str | None:
    """As `find_problem`, of a path on this machine.

    Raises:
        OSError: The system does not let it be looked at.
    """
    place = Path(value)
    if reads.kind == "hub" and getattr(owner, "revision", None):
        return None
    if reads.kind == "module" and "/" not in value and find_spec(value):
        return None
    if reads.kind == "files" and not place.exists() and any(sign in value for sign in WILDCARDS):
        return None if matches(place) else f'nothing matches "{value}"; expected {EXPECTED["files"]}'
    expected = EXPECTED[reads.kind] + (f" with {reads.holds}" if reads.holds else "")
    if not place.exists():
        return f'"{value}" is not there; expected {expected}; {suggest(place)}'
    if reads.kind == "folder" and not place.is_dir():
        return f'"{value}" is a file; expected {expected}'
    if reads.kind in ("file", "database") and place.is_dir():
        return f'"{value}" is a folder; expected {expected}'
    if reads.holds and place.is_dir() and not (place / reads.holds).exists():
        return f'"{value}" has no {reads.holds}; expected {expected}; {list_names(place)}'
    return None


def matches(place: Path) -> bool:
    """Whether a glob matches anything."""
    first = next(index for index, part in enumerate(place.parts) if any(sign in part for sign in WILDCARDS))
    folder, pattern = Path(*place.parts[:first]), str(Path(*place.parts[first:]))
    return any(True for _ in folder.glob(pattern))


def suggest(place: Path) -> str:
    """The next step for a path that leads nowhere."""
    if place.with_name(f"{place.name}.dvc").is_file():
        return "DVC has it: run `dvc pull`"
    if is_committed(place):
        other = " or `heptune pretrain-base`" if place == artifacts.BASE else ""
        return f"`git checkout -- {place}`{other} brings it back"
    folder = next((above for above in place.parents if above.exists()), Path())
    if folder != place.parent:
        return f"{place.parent} is not there either"
    near = difflib.get_close_matches(place.name, names_in(folder), 1)
    return f'did you mean "{folder / near[0]}"?' if near else list_names(folder)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in islice(folder.iterdir(), 10_000)) if folder.is_dir() else []


def list_names(folder: Path) -> str:
    names = [name for name in names_in(folder) if not name.startswith(".")]
    shown = ", ".join(names[:SHOWN_NAMES]) + (" and more" if len(names) > SHOWN_NAMES else "")
    return f"{folder} holds {shown or 'nothing'}"


def is_committed(path: Path) -> bool:
    words = ["git", "ls-files", "--", str(path)]
    try:
        return bool(subprocess.run(words, capture_output=True, check=False).stdout)
    except OSError:  # no git on this machine
        return False


def list_outs(stage: Any) -> Iterable[str]:
    """What a stage of ``dvc.yaml`` says that it makes."""
    if not isinstance(stage, dict):
        return []
    listed = [item for kind in ("outs", "metrics", "plots") for item in stage.get(kind) or []]
    return [item if isinstance(item, str) else next(iter(item)) for item in listed if item]


def list_dependencies(stage: Any) -> list[str]:
    """What a stage of ``dvc.yaml`` says that it reads."""
    listed = stage.get("deps") or [] if isinstance(stage, dict) else []
    return [item if isinstance(item, str) else next(iter(item)) for item in listed if item]


def is_watched(value: str, watched: Iterable[Path]) -> bool:
    """Whether a path, or what it is a link to, is one of those or below one."""
    place = Path(value).resolve()
    return any(place.is_relative_to(folder.resolve()) for folder in watched)


def is_made(path: str, made: Iterable[Path]) -> bool:
    """Whether a stage makes a path, or something below it."""
    place = Path(path)
    return any(place == out or out in place.parents or place in out.parents for out in made)
