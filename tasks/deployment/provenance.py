"""The provenance of a release, from the files of the earlier stages, and the facts of its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_json, read_manifest
from tasks.deployment.merge import Exported
from tasks.deployment.parity import ParityProof
from tasks.training.plan import Plan, load_plan

BASE = "candidate_vs_base"


@dataclass(frozen=True)
class Provenance:
    """Records of the earlier stages, read from their files.

    Attributes:
        prepared: Manifest of the prepared data.
        initial: Manifest of the base model.
        plan: The training plan.
        tuned: Manifest of the tuned model.
        verdict: Evaluation's verdict.
    """

    prepared: dict[str, Any]
    initial: dict[str, Any]
    plan: Plan
    tuned: dict[str, Any]
    verdict: dict[str, Any]

    @property
    def origin(self) -> str:
        """Where the base model came from, as text."""
        source = self.initial["source"]
        return "@".join(str(value) for value in source.values())


def read_provenance(prepared: Path, initial: Path, plan: Path, tuned: Path, verdict: Path) -> Provenance:
    """Read the records that the card shows.

    Args:
        prepared: The prepared data's ``manifest.json``.
        initial: The base model's folder.
        plan: The plan's folder.
        tuned: The tuned model's folder.
        verdict: Evaluation's ``verdict.json``.

    Raises:
        PipelineError: One of them is missing or incomplete.
    """
    evaluation = read_json(verdict)
    if evaluation.get("verdict") not in ("promote", "keep"):
        raise PipelineError(
            f"{verdict}: verdict {evaluation.get('verdict')!r}; expected promote or keep; evaluate again"
        )
    return Provenance(read_json(prepared), read_manifest(initial), load_plan(plan), read_manifest(tuned), evaluation)


def describe_release(
    provenance: Provenance, exported: Exported, proof: ParityProof, name: str, export: str
) -> dict[str, Any]:
    """The facts of a release's manifest: its provenance by hash, and its scores.

    Args:
        provenance: Records of the earlier stages.
        exported: The merged model.
        proof: Parity proof of the release.
        name: Name of the model.
        export: Name of the export format.
    """
    splits = provenance.prepared["files"]
    return {
        "model": name,
        "export": export,
        "base": provenance.initial["source"],
        "method": provenance.plan.method.name,
        "weights": hash_folder(exported.folder),
        "data": {name: entry["sha256"] for name, entry in splits.items()},
        "tuned": {name: entry["sha256"] for name, entry in provenance.tuned["files"].items()},
        "metrics": {metric: r["mean_a"] for metric, r in provenance.verdict["comparisons"][BASE].items()},
        "parity": proof.figures,
    }
