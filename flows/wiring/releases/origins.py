"""What is behind a model, settings, data and code, and what of it differs between two."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.wiring import artifacts
from flows.wiring.params.places import find, flatten
from flows.wiring.releases.named_models import NamedEndpoint, NamedModel, NamedWriter
from flows.wiring.versions.lineage import git_commit
from tasks.contracts.manifest import NAME, find_json

if TYPE_CHECKING:
    from tasks.evaluation.report.differences import OriginChange

# Sections that decide about a release, monitoring and search apart.
SECTIONS = (
    "data_preparation", "model_initialisation", "training_setup", "fine_tuning", "evaluation", "deployment.release",
)  # fmt: skip
FILES_NAMED = 12


@dataclass(frozen=True)
class ModelOrigin:
    """What is known to be behind a model.

    Attributes:
        params: Dotted key to value, defaults included; empty where they were not recorded.
        data: Name of a prepared file to its SHA-256.
        model: Base, method and the like.
        commit: Git commit, with ``+changes`` where files differed from it; empty where it is not known.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""


def list_params(params: Any) -> dict[str, Any]:
    """The params that decide about a release, flat.

    Args:
        params: All of them.
    """
    values = params.model_dump(mode="json")
    sections = {name: find(values, name.split(".")) for name in SECTIONS}
    return flatten(sections)


def read_origin(model: NamedModel | NamedEndpoint | NamedWriter) -> ModelOrigin:
    """What is behind a model: from its release, or for what was just trained from the checkout."""
    if not isinstance(model, NamedModel):  # nobody knows what is behind a URL
        return ModelOrigin()
    if model.asked == "base":
        manifest = find_json(artifacts.INITIAL / NAME)
        return ModelOrigin(model=_describe_model({"base": manifest.get("source")}))
    if model.asked == "tuned":
        from flows.wiring.params import read_params

        tuned, prepared = find_json(artifacts.TUNED / NAME), find_json(artifacts.PREPARED / NAME)
        base = find_json(artifacts.INITIAL / NAME).get("source")
        return ModelOrigin(
            list_params(read_params()),
            _list_data({name: entry["sha256"] for name, entry in prepared.get("files", {}).items()}),
            _describe_model({"base": base, "method": (tuned.get("method") or {}).get("name")}),
            git_commit(),
        )
    release = find_json(model.folder.parent / NAME)
    if "release" not in release:
        return ModelOrigin()
    facts = {key: release.get(key) for key in ("base", "method", "export", "release")}
    return ModelOrigin(
        release.get("params") or {}, _list_data(release.get("data") or {}), _describe_model(facts), model.commit
    )


def _list_data(files: Mapping[str, str]) -> dict[str, str]:
    """The files that a model is trained and judged on, by the beginning of their hash."""
    kept = ("train.parquet", "validation.parquet", "test.parquet", "answers.parquet")
    return {name: files[name][:12] for name in kept if name in files}


def _describe_model(facts: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        key: "@".join(map(str, value.values())) if isinstance(value, dict) else value for key, value in facts.items()
    }
    return {key: str(value)[:60] for key, value in shown.items() if value}


def compare_origins(before: ModelOrigin, after: ModelOrigin) -> tuple[list[OriginChange], str]:
    """What is not the same behind two models, and what cannot be told.

    Args:
        before: The one.
        after: The other.
    """
    from tasks.evaluation.report.differences import OriginChange

    changes: list[OriginChange] = []
    notes: list[str] = []
    for part in ("model", "data", "params"):
        old, new = getattr(before, part), getattr(after, part)
        if not old or not new:
            notes.append(f"Of one of them no {part} is recorded." if part != "model" else "")
            if part != "model":
                continue
        differing = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
        changes += [OriginChange(part, key, old.get(key), new.get(key)) for key in differing]
        if part == "params":
            notes.append(f"{len((old.keys() | new.keys()) - set(differing)):,} settings are the same.")
    if before.commit and after.commit:
        changes += _compare_code(before.commit, after.commit)
    return changes, " ".join(filter(None, notes))


def _compare_code(before: str, after: str) -> list[OriginChange]:
    from tasks.evaluation.report.differences import OriginChange

    if before == after and not before.endswith("+changes"):
        return []
    changes = [OriginChange("code", "commit", *(_shorten_commit(one) for one in (before, after)))]
    words = ["git", "diff", "--name-only", before.partition("+")[0], after.partition("+")[0], "--", "flows", "tasks"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return changes
    files = found.stdout.split() if found.returncode == 0 else []
    if files:
        named = ", ".join(files[:FILES_NAMED]) + (
            f" and {len(files) - FILES_NAMED:,} more" * (len(files) > FILES_NAMED)
        )
        changes.append(OriginChange("code", "files that differ", None, named))
    return changes


def _shorten_commit(commit: str) -> str:
    name, _, changed = commit.partition("+")
    return name[:12] + (" with changes" if changed else "")
