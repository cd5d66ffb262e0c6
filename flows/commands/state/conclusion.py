"""What a run came to, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.commands.state.mlflow_records import ModelVersion
from flows.commands.state.mlflow_store import open_store
from flows.commands.state.stale import StageState
from flows.wiring import artifacts
from flows.wiring.staleness import STAGES
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import find_json

EVALUATED = STAGES.index("evaluation")
GATE = "quality gate"


@dataclass(frozen=True)
class Conclusion:
    """The verdict of evaluation, as far as the stages got there, and what to do next.

    Attributes:
        verdict: ``promote``, ``keep``, or empty: there is none of these stages.
        reasons: Its grounds, the decisive one first.
        steps: Commands, or what to change, in order.
    """

    verdict: str = ""
    reasons: Sequence[str] = ()
    steps: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """For a person: verdict, reason and next step, a line each."""
        lines = [f"verdict: {self.verdict}; {self.reasons[0]}"] if self.verdict and self.reasons else []
        return [*lines, f"next: {', then '.join(self.steps)}"] if self.steps else lines

    @property
    def values(self) -> dict[str, Any]:
        found = {"verdict": self.verdict, "reasons": list(self.reasons)} if self.verdict else None
        return {"verdict": found, "next": self.steps}


def conclude(stages: Sequence[StageState], model: str) -> Conclusion:
    """What the present files say.

    Args:
        stages: State of the stages that may be stale.
        model: Name of the registered model.
    """
    behind = [one.stage for one in stages if one.state != "up to date"]
    verdict = find_json(artifacts.EVALUATION_VERDICT)
    if any(stage in behind for stage in STAGES[: EVALUATED + 1]) or not verdict:
        return Conclusion(steps=[f"`heptune run` ({', '.join(behind)} to do)"] if behind else [])
    name, reasons = str(verdict["verdict"]), [str(reason) for reason in verdict["reasons"]]
    if "deployment" in behind:
        return Conclusion(name, reasons, [f"`heptune run` ({', '.join(behind)} to do)"])
    try:
        versions = open_store().read_versions(model)
    except PipelineError as error:
        return Conclusion(name, reasons, [f"once MLflow answers ({error}), `heptune register`"])
    return Conclusion(name, reasons, list_steps(verdict, versions))


def list_steps(verdict: dict[str, Any], versions: Sequence[ModelVersion]) -> list[str]:
    """What follows from a verdict, as far as it has not been done; a gateway that is up swaps by itself."""
    from flows.wiring.releases.serving import list_gateways

    release = str(find_json(artifacts.RELEASE / "manifest.json").get("release", ""))
    champion = next((one for one in versions if "champion" in one.aliases), None)
    if champion and champion.release == release:
        return [] if list_gateways() else ["`heptune serve`"]
    if verdict["verdict"] != "promote":
        return [advise(verdict)]
    if champion and champion.release != verdict.get("champion"):
        return [f"`heptune retrain`, because version {champion.version} has become champion since the comparison"]
    registered = any(one.release == release for one in versions)
    steps = ["`heptune promote`"] if registered else ["`heptune register`", "`heptune promote`"]
    return steps if list_gateways() else [*steps, "`heptune serve`"]


def advise(verdict: dict[str, Any]) -> str:
    """What to change where the candidate was not proven better."""
    primary = verdict.get("comparisons", {}).get(f"candidate_vs_{verdict.get('opponent')}", {}).get(verdict["primary"])
    if str(verdict["reasons"][0]).startswith("too few items"):
        change = "add rows to data_preparation.sources, or a larger share of them to data_preparation.split.test"
    elif verdict["verdict"] == "undecided" and verdict.get("items_needed"):
        change = (
            f"hold out more rows (about {verdict['items_needed']:,} would settle it, {verdict['items']:,} were "
            "answered: data_preparation.split.test and evaluation.items), or change what is learned "
            "(data_preparation.sources, training_setup.epochs, learning_rate or method)"
        )
    elif primary and primary["low"] <= 0 <= primary["high"]:
        change = (
            "change what is learned (data_preparation.sources, training_setup.epochs, learning_rate or method), or "
            "hold out more rows, on which a smaller difference shows"
        )
    else:
        change = "change what is learned: data_preparation.sources, training_setup.epochs, learning_rate or method"
    return f"{change}, then `heptune run`"


def conclude_failure(error: PipelineError) -> Conclusion:
    """What to do after a stage failed, which said itself what is wrong."""
    if GATE in str(error):
        return Conclusion(
            "failed",
            [str(error).splitlines()[0]],
            [
                f"correct the rows ({artifacts.report('data_preparation')} shows them) or, to use these data all the "
                "same, `heptune approve --name NAME --reason WHY`",
                "`heptune run`",
            ],
        )
    return Conclusion(steps=["correct it", "`heptune run`; finished stages are kept"])
