"""DVC: its folder, configuration, pipeline, lock and remotes, and that pinned data is here or can come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts
from flows.wiring.staleness import STAGES
from flows.wiring.yaml_file import read_yaml
from tasks.contracts.errors import PipelineError

MARKERS = ("<<<<<<< ", "=======", ">>>>>>> ")
FOLDER = Path(".dvc")


def examine(here: Surroundings) -> Iterator[Finding]:
    yield from _examine_pipeline()
    yield from _examine_lock()
    if not FOLDER.is_dir():
        yield Finding(
            "error", str(FOLDER), "is not there, perhaps left out when the checkout was copied",
            "copy it too, or run `dvc init` (outside git: `dvc init --no-scm`)",
        )  # fmt: skip
        return
    config = _read_config()
    if isinstance(config, Finding):
        yield config
        return
    remotes = {str(name): str(about.get("url", "")) for name, about in (config.get("remote") or {}).items()}
    chosen = config.get("core", {}).get("remote")
    if chosen and chosen not in remotes:
        found = f"core.remote is {chosen}, and the remotes are {', '.join(remotes) or 'none'}"
        yield Finding("error", str(FOLDER / "config"), found, f"`dvc remote add {chosen} URL`, or choose one of them")
    for name, url in remotes.items():
        place = FOLDER / url  # DVC takes paths relative to its folder
        if "://" not in url and not place.is_dir():
            found = f"the remote {name} is {url}, which is not there"
            yield Finding("error", str(FOLDER / "config"), found, "mount that disk, or make the folder")
        elif package := _find_missing_package(url):
            found = f"the remote {name} is {url}, for which DVC needs {package}, and that is not installed"
            yield Finding("error", str(FOLDER / "config"), found, f"`pip install {package}`")
    cache = FOLDER / str(config.get("cache", {}).get("dir") or "cache")
    if config.get("cache", {}).get("dir") and not cache.is_dir():
        found = f"the cache is {cache}, which is not there"
        yield Finding("error", str(FOLDER / "config"), found, "mount that disk, or `dvc cache dir --unset`")
    yield from _find_missing_data(cache, bool(remotes))


def _examine_pipeline() -> Iterator[Finding]:
    try:
        declared = read_yaml(artifacts.PIPELINE).get("stages") or {}
    except PipelineError as error:
        yield Finding("error", str(artifacts.PIPELINE), str(error), f"`git checkout -- {artifacts.PIPELINE}`")
        return
    missing = [name for name in STAGES if name not in declared]
    if missing:
        found = f"has no stage {', '.join(missing)}"
        yield Finding("error", str(artifacts.PIPELINE), found, f"`git checkout -- {artifacts.PIPELINE}`")


def _examine_lock() -> Iterator[Finding]:
    if not artifacts.LOCK.is_file():
        return
    again = f"`git checkout -- {artifacts.LOCK}`, or delete it: the next run writes it again"
    text = artifacts.LOCK.read_text(encoding="utf-8", errors="replace")
    if any(line.startswith(MARKERS[0]) for line in text.splitlines()):
        found = "holds both sides of a merge"
        yield Finding(
            "error", str(artifacts.LOCK), found, f"`git checkout --ours {artifacts.LOCK}`, then `heptune run`"
        )
        return
    try:
        values: Any = read_yaml(artifacts.LOCK)
    except PipelineError as error:
        yield Finding("error", str(artifacts.LOCK), f"is torn: {error}", again)
        return
    for name, stage in (values.get("stages") or {}).items():
        entries = [entry for kind in ("deps", "outs") for entry in (stage or {}).get(kind) or []]
        if not all(isinstance(entry, dict) and "path" in entry for entry in entries):
            yield Finding("error", str(artifacts.LOCK), f"is torn in stage {name}", again)


def _read_config() -> Any:
    """DVC's own configuration of all levels, or what is wrong with it."""
    from dvc.config import Config, ConfigError

    try:
        return Config(str(FOLDER.resolve()), validate=True)
    except ConfigError as error:
        reason = str(error).splitlines()[0]
        return Finding(
            "error",
            str(FOLDER / "config"),
            f"DVC cannot read it ({reason})",
            "correct that line, or `git checkout -- .dvc/config`",
        )


def _find_missing_package(url: str) -> str | None:
    """The package that DVC needs for a store; None where it is there, or where DVC needs none."""
    from importlib.util import find_spec

    from dvc.fs import known_implementations

    scheme, separator, _ = url.partition("://")
    module = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
    return module.replace("_", "-") if separator and module and find_spec(module) is None else None


def _find_missing_data(cache: Path, has_remote: bool) -> Iterator[Finding]:
    """Data behind ``.dvc`` files that are neither in the workspace nor in the cache."""
    for pointer in sorted([*Path("data").rglob("*.dvc"), *Path("models").glob("*.dvc")]):
        if not pointer.is_file():
            continue
        try:
            outs = read_yaml(pointer).get("outs") or []
        except PipelineError as error:
            yield Finding("error", str(pointer), f"cannot be read: {error}", f"`git checkout -- {pointer}`")
            continue
        for out in outs:
            place, digest = pointer.parent / str(out.get("path", "")), str(out.get("md5", ""))
            if place.exists() or (cache / "files/md5" / digest[:2] / digest[2:]).exists():
                continue
            if has_remote:
                yield Finding("warning", str(place), f"is not here, and {pointer} pins it", "`dvc pull`")
            else:
                found = f"is not here, {pointer} pins it, and there is no remote to pull it from"
                yield Finding("error", str(place), found, "`dvc remote add -d NAME URL`, then `dvc pull`")
