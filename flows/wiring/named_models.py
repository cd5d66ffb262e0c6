"""Models by what a person calls them: the base, what was just trained, a registered version, or a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flows.wiring import artifacts
from flows.wiring.source import MODEL
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file

ALIASES = ("champion", "challenger", "previous")
EXPECTED = (
    f"expected base, tuned, {', '.join(ALIASES)}, the number of a registered version, the run that made one, or a "
    "model folder"
)
# The beginning of an id of MLflow or Prefect.
RUN = re.compile(r"(?=.*\d)[0-9a-f]{8}[0-9a-f-]*")


@dataclass(frozen=True)
class NamedModel:
    """A model that can be opened.

    Attributes:
        name: What it is called on the page.
        folder: Where its tokenizer and configuration are; for the base the folder that model initialisation wrote.
        identity: Hash of its files; empty for a folder without a manifest.
        load: Gives the model and its tokenizer.
        asked: What a person called it.
        commit: Git commit that a registered version was made at; empty where it is not known.
    """

    name: str
    folder: Path
    identity: str
    load: Callable[[], tuple[Any, Any]]
    asked: str = ""
    commit: str = ""


def find_model(asked: str, precision: Literal["fp32", "bf16"]) -> NamedModel:
    """The model that a person means; nothing is loaded yet.

    Args:
        asked: ``base``, ``tuned``, an alias or number (``7`` or ``v7``) of a registered version, a run by the id (or
            its first 8 digits) that MLflow or Prefect has for it, or a folder.
        precision: Number format that a release's weights are read in.

    Raises:
        PipelineError: There is none.
    """
    from tasks.evaluation.outcomes import load_folder
    from tasks.language_models.model_folder import load_tokenizer, resolve_model
    from tasks.training.released import find_base
    from tasks.training.tuned import load_tuned

    if asked in ("base", "tuned"):
        for folder in (artifacts.INITIAL, *([artifacts.TUNED] if asked == "tuned" else [])):
            if not (folder / NAME).is_file():
                raise PipelineError(f"{folder}: missing or not complete; `heptune run` makes it")
        initial, tuned = artifacts.INITIAL, artifacts.TUNED
        identity = hash_file(initial / NAME)
        if asked == "tuned":
            return NamedModel(
                asked, initial, f"{identity} {hash_file(tuned / NAME)}", lambda: load_tuned(initial, tuned), asked
            )
        return NamedModel(
            asked,
            initial,
            identity,
            lambda: (load_folder(resolve_model(initial), precision)[0], load_tokenizer(initial)),
            asked,
        )
    number = re.fullmatch(r"v?(\d+)", asked)
    if asked in ALIASES or number:
        return open_version(asked if number is None else None, int(number[1]) if number else None, precision)
    place = Path(asked)
    if (find_base(place) / "config.json").is_file():
        return NamedModel(asked, place, "", lambda: load_folder(place, precision), asked)
    if RUN.fullmatch(asked) and not place.exists():
        return open_version(None, _find_version_of(asked), precision)
    found = "no config.json there" if place.is_dir() else "no such folder"
    raise PipelineError(f'"{asked}": {found}; {EXPECTED}')


def open_version(alias: str | None, version: int | None, precision: Literal["fp32", "bf16"]) -> NamedModel:
    """A registered version, fetched if it is not stored locally.

    Args:
        alias: Its alias; None where it is asked for by number.
        version: Its number.
        precision: Number format that its weights are read in.
    """
    from flows.wiring.registry import open_registry
    from tasks.evaluation.outcomes import load_folder

    registry = open_registry()
    found = registry.find_version(alias, version)
    release = registry.fetch_release(found.release)
    name = f"version {found.version}" + (f" ({alias})" if alias else "")
    return NamedModel(
        name,
        release / MODEL,
        hash_file(release / NAME),
        lambda: load_folder(release / MODEL, precision),
        alias or str(found.version),
        registry.read_commit(found.version),
    )


def _find_version_of(run: str) -> int:
    """The version that a run made."""
    from flows.wiring.registry import open_registry

    return open_registry().find_run(run).version
