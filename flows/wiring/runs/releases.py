"""Releases as MLflow's runs show them, and which model version each is, kept beside their local store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tasks.contracts.manifest import read_json, write_json

VERSIONS = "versions.json"
CHAMPION_NOTE = "champion.json"


class ReleasedVersion(NamedTuple):
    """A version of a registered model."""

    model: str
    version: int


def note_version(releases: Path, release: str, model: str, version: int) -> None:
    """Keep which model version a release is, for who does not ask MLflow."""
    path = releases / VERSIONS
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, release: {"model": model, "version": version}})


def read_versions(releases: Path) -> dict[str, ReleasedVersion]:
    """Model versions by release hash, as far as this checkout registered or fetched them."""
    path = releases / VERSIONS
    known = read_json(path) if path.is_file() else {}
    return {release: ReleasedVersion(**entry) for release, entry in known.items()}


def describe_release(manifest: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, float]]:
    """Params and figures of a release, under the names that the stages' runs have for them."""
    base = "@".join(str(value) for value in manifest.get("base", {}).values() if value)
    params = {"method": str(manifest.get("method", "")), "base": base}
    figures = {f"candidate.{metric}": float(value) for metric, value in manifest.get("metrics", {}).items()}
    figures |= {key: float(value) for key, value in manifest.get("parity", {}).items()}
    return {key: value for key, value in params.items() if value}, figures


def name_release(releases: Path, release: str) -> str:
    """A release by its model version, where it has one, and the beginning of its hash."""
    version = read_versions(releases).get(release)
    return f"version {version.version}, release {release[:12]}" if version else f"release {release[:12]}"


class KnownChampion(NamedTuple):
    """The champion as this checkout last saw it: since when, in seconds since the epoch."""

    release: str
    version: int
    since: float


def note_champion(releases: Path, release: str, version: int) -> bool:
    """Keep who is champion, for who does not ask MLflow; whether that is news."""
    known = read_champion(releases)
    if known and (known.release, known.version) == (release, version):
        return False
    write_json(releases / CHAMPION_NOTE, KnownChampion(release, version, time.time())._asdict())
    return True


def read_champion(releases: Path) -> KnownChampion | None:
    """The champion that this checkout last saw; None before there was one."""
    path = releases / CHAMPION_NOTE
    return KnownChampion(**read_json(path)) if path.is_file() else None
