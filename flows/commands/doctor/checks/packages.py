"""Versions of the libraries: what the code needs, what breaks at run time, and releases with known holes."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from flows.commands.doctor.finding import Finding, Surroundings

PROJECT = Path("pyproject.toml")
# From the advisories of each: below this release, who reaches it runs code or is let in.
HOLES = {"transformers": "5.3", "mlflow": "3.10", "prefect": "3.6.22", "vllm": "0.18"}
MALICIOUS = {"litellm": ("1.82.7", "1.82.8")}
# From this release on: it installs, and then something else fails.
BREAKS = {
    "fastapi": ("0.151", "the Prefect server does not start with it"),
    "sqlalchemy": ("2.1", "Prefect's scheduler crashes with it, so that schedules never fire"),
    "pandas": ("3.1", "evidently does not import with it"),
    "prefect": ("3.9", "it was not tried"),
}


def examine(here: Surroundings) -> Iterator[Finding]:
    installed = read_installed()
    told = set[str]()
    for name, version in installed.items():
        for found in _judge(name, version):
            told.add(name)
            yield found
    for requirement in read_requirements():
        name = canonicalize_name(requirement.name)
        if name in told:
            continue
        if name not in installed:
            yield Finding(
                "error",
                name,
                f"is not installed for {sys.executable}; expected {requirement.specifier}",
                _install(requirement),
            )
        elif not requirement.specifier.contains(installed[name], prereleases=True):
            yield Finding(
                "error", name, f"version {installed[name]}; expected {requirement.specifier}", _install(requirement)
            )
    yield from _find_interrupted()


def read_installed() -> dict[str, Version]:
    """Canonical name to version, of what an import would find."""
    found: dict[str, Version] = {}
    for distribution in distributions():
        try:
            name = canonicalize_name(distribution.metadata["Name"] or "")
            found.setdefault(name, Version(distribution.version))
        except (InvalidVersion, TypeError, ImportError, FileNotFoundError):
            continue  # what an interrupted installation left, told below
    return found


def read_requirements() -> Iterator[Requirement]:
    """What ``pyproject.toml`` names and this system needs."""
    if not PROJECT.is_file():
        return
    try:
        named = tomllib.loads(PROJECT.read_text(encoding="utf-8")).get("project", {}).get("dependencies", [])
        wanted = [Requirement(text) for text in named]
    except (tomllib.TOMLDecodeError, InvalidRequirement):
        return
    yield from (one for one in wanted if one.marker is None or one.marker.evaluate())


def _judge(name: str, version: Version) -> Iterator[Finding]:
    if str(version) in MALICIOUS.get(name, ()):
        fix = f"`pip uninstall {name}` at once, and change every key that this machine has seen"
        yield Finding("error", name, f"version {version} is a malicious release that sends away keys", fix)
    if name in HOLES and version < Version(HOLES[name]):
        floor = HOLES[name]
        yield Finding(
            "error", name, f"version {version} has holes that later ones have not; expected {floor} or newer",
            f"`pip install '{name}>={floor}'`",
        )  # fmt: skip
    if name in BREAKS and version >= Version(BREAKS[name][0]):
        below, why = BREAKS[name]
        yield Finding("error", name, f"version {version}: {why}", f"`pip install '{name}<{below}'`")


def _install(requirement: Requirement) -> str:
    return f"`pip install -c constraints.txt '{requirement}'`"


def _find_interrupted() -> Iterator[Finding]:
    """pip moves a package to a name with ``~`` while it replaces it."""
    for entry in sys.path:
        folder = Path(entry or ".")
        if folder.is_dir():
            for path in sorted(folder.glob("~*")):
                found = "pip was interrupted while it replaced this package"
                yield Finding("warning", str(path), found, "delete it, and install the package again")
