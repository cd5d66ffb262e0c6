"""The provenance of a release, from the files of the earlier stages, and the facts of its manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import find_json, hash_folder, read_json, read_manifest
from tasks.deployment.merge import Exported
from tasks.deployment.parity import ParityProof
from tasks.language_models.folder.model_folder import resolve_model
from tasks.training.plan import Plan, load_plan

BASE = "candidate_vs_base"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Provenance:
    """Records of the earlier stages, read from their files.

    Attributes:
        prepared: Manifest of the prepared data.
        initial: Manifest of the base model.
        plan: The training plan.
        tuned: Manifest of the tuned model.
        verdict: Evaluation's verdict.
        base: Name of the base model, see `name_base`.
        report: All that evaluation measured; empty where it is not known.
    """

    prepared: dict[str, Any]
    initial: dict[str, Any]
    plan: Plan
    tuned: dict[str, Any]
    verdict: dict[str, Any]
    base: str
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where the base model came from, as text."""
        source = self.initial["source"]
        return "@".join(str(value) for value in source.values())


def read_provenance(
    prepared: Path, initial: Path, plan: Path, tuned: Path, verdict: Path, report: Path | None = None
) -> Provenance:
    """Read the records that the card shows.

    Args:
        prepared: The prepared data's ``manifest.json``.
        initial: The base model's folder.
        plan: The plan's folder.
        tuned: The tuned model's folder.
        verdict: Evaluation's ``verdict.json``.
        report: Evaluation's ``report.json``; without it the card has no intervals of scores, slices and benchmarks.

    Raises:
        PipelineError: One of them is missing or incomplete.
    """
    evaluation = read_json(verdict)
    if evaluation.get("verdict") not in ("promote", "keep", "undecided"):
        raise PipelineError(
            f"{verdict}: verdict {evaluation.get('verdict')!r}; expected promote, keep or undecided; evaluate again"
        )
    manifest = read_manifest(initial)
    return Provenance(
        read_json(prepared),
        manifest,
        load_plan(plan),
        read_manifest(tuned),
        evaluation,
        name_base(manifest["source"], resolve_model(initial)),
        find_json(report) if report else {},
    )


def name_base(source: dict[str, str], folder: Path) -> str:
    """The name of a base model for the card of what is tuned from it.

    That is its id on the hub; of a folder or a GGUF file the hub id that its ``config.json`` states, else the heading
    of its own card, else where it is.

    Args:
        source: Source of the model, as model initialisation recorded it.
        folder: The model's folder.
    """
    if "hub" in source:
        return source["hub"]
    stated = str(read_json(folder / "config.json").get("_name_or_path") or "")
    if HUB_ID.fullmatch(stated) and not Path(stated).exists():
        return stated
    card = folder / "README.md"
    lines = card.read_text("utf-8", errors="replace").splitlines() if card.is_file() else []
    headings = (line.removeprefix("# ").strip() for line in lines if line.startswith("# "))
    return next((heading for heading in headings if heading), next(iter(source.values())))


def describe_release(
    provenance: Provenance,
    exported: Exported,
    proof: ParityProof,
    name: str,
    export: str,
    params: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """The facts of a release's manifest: its provenance by hash, and its scores.

    Args:
        provenance: Records of the earlier stages.
        exported: The exported model.
        proof: Parity proof of the release.
        name: Name of the model.
        export: Name of the export format.
        params: Settings that it was made with, by dotted key.
    """
    splits = provenance.prepared["files"]
    return {
        "model": name,
        "export": export,
        "base": provenance.initial["source"],
        "method": provenance.plan.method.name,
        "merged": provenance.plan.method.can.merging,
        "weights": hash_folder(exported.folder),
        "data": {name: entry["sha256"] for name, entry in splits.items()},
        "tuned": {name: entry["sha256"] for name, entry in provenance.tuned["files"].items()},
        "metrics": {metric: r["mean_a"] for metric, r in provenance.verdict["comparisons"][BASE].items()},
        "parity": proof.figures,
        "params": dict(params),
    }
