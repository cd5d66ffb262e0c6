"""``heptune status`` and ``heptune list``: where a checkout stands. Nothing is started for an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.answers import Answer, command
from flows.wiring import artifacts

if TYPE_CHECKING:
    from flows.commands.state.at_work import RunningCommand, ServingGateway
    from flows.commands.state.conclusion import Conclusion
    from flows.commands.state.mlflow_records import ModelVersion, RecordedRun
    from flows.commands.state.stale import StageState
    from tasks.evaluation.decisions.reuse import HeldOutUse
    from tasks.monitoring.decisions import Decision

app = typer.Typer()
SHORT = 12
RUNS_SHOWN = 20


@dataclass(frozen=True)
class Status:
    """Where a checkout stands.

    Attributes:
        stages: What is stale, and why.
        versions: Model versions; None where MLflow does not answer.
        problem: Why it does not; empty where it does.
        release: Hash of the release that the last run built; empty without one.
        commands: What is at work.
        gateways: What serves.
        decision: The last decision about a retrain, if there was one.
        unsent: Runs whose entries MLflow does not have yet.
        refused: Runs of which MLflow took some entries not.
        conclusion: The verdict and the next command.
        held_out: How worn the held-out items of the last verdict are; None where there is none.
    """

    stages: list[StageState]
    versions: list[ModelVersion] | None
    problem: str
    release: str
    commands: list[RunningCommand]
    gateways: list[ServingGateway]
    decision: Decision | None
    unsent: int
    refused: int
    conclusion: Conclusion
    held_out: HeldOutUse | None = None

    @property
    def champion(self) -> ModelVersion | None:
        return next((one for one in self.versions or [] if "champion" in one.aliases), None)

    def version_of(self, release: str) -> int | None:
        """The version under which a release is registered first."""
        return next((one.version for one in self.versions or [] if release and one.release == release), None)


@command(app)
def status() -> Answer:
    """What is stale and why, the champion, what serves and what is at work, and the next command."""
    found = look()
    champion = found.champion
    values = {
        "stages": [{**asdict(stage), "state": stage.state} for stage in found.stages],
        "champion": champion and asdict(champion),
        "release": {"release": found.release, "version": found.version_of(found.release)} if found.release else None,
        "mlflow": {"error": found.problem or None, "unsent": found.unsent, "refused": found.refused},
        "commands": [asdict(one) for one in found.commands],
        "gateways": [{**asdict(one), "version": found.version_of(one.release)} for one in found.gateways],
        "decision": found.decision and found.decision.model_dump(),
        "held_out": found.held_out and found.held_out.model_dump(exclude={"items", "candidate"}),
        **found.conclusion.values,
    }
    return Answer(values, "\n".join(describe(found)))


@command(app, "list")
def list_recorded(
    limit: Annotated[int, typer.Option(min=1, help="At most so many runs, the newest.")] = RUNS_SHOWN,
) -> Answer:
    """Versions of the model with verdict, figures and aliases, and the newest runs with reason and result."""
    from flows.commands.state.mlflow_store import open_store
    from flows.wiring.params import read_params

    store, model = open_store(), read_params().deployment.release.model
    versions = [(one, read_figures(one.release)) for one in store.read_versions(model)]
    runs = store.read_runs(limit)
    values = {
        "model": model,
        "versions": [{**asdict(one), "figures": figures} for one, figures in versions],
        "runs": [asdict(one) for one in runs],
    }
    lines = [f"versions of {model}" if versions else f"no version of {model} is registered yet"]
    lines += [describe_version(one, figures) for one, figures in reversed(versions)]
    lines += ["runs, newest first" if runs else "no run is recorded yet"]
    lines += [describe_run(one) for one in runs]
    return Answer(values, "\n".join(lines))


def look() -> Status:
    """The state of the checkout around the current folder.

    Raises:
        PipelineError: Params or ``dvc.yaml`` cannot be read.
    """
    from flows.commands.state.at_work import list_commands, list_serving
    from flows.commands.state.conclusion import conclude
    from flows.commands.state.mlflow_store import open_store
    from flows.commands.state.stale import inspect_stages
    from flows.wiring.params import read_params
    from flows.wiring.runs.recording import UNSENT
    from tasks.contracts.errors import PipelineError
    from tasks.contracts.manifest import find_json
    from tasks.evaluation.decisions.reuse import HeldOutUse
    from tasks.monitoring.decisions import read_decisions

    model = read_params().deployment.release.model
    stages, gateways = inspect_stages(), list_serving()
    try:
        versions, problem = open_store().read_versions(model), ""
    except PipelineError as error:
        versions, problem = None, str(error)
    decisions = read_decisions(artifacts.DECISIONS)
    return Status(
        stages,
        versions,
        problem,
        str(find_json(artifacts.RELEASE / "manifest.json").get("release", "")),
        list_commands(),
        gateways,
        decisions[-1] if decisions else None,
        sum(1 for _ in UNSENT.glob("*.jsonl")),
        sum(1 for _ in artifacts.REFUSED.glob("*.jsonl")),
        conclude(stages, model),
        HeldOutUse.model_validate(use) if (use := find_json(artifacts.EVALUATION_VERDICT).get("held_out")) else None,
    )


def describe(found: Status) -> Iterator[str]:
    for stage in found.stages:
        because = "; ".join(stage.reasons) or ", ".join(other.replace("_", " ") for other in stage.after)
        text = f"{stage.state}{': ' if stage.reasons else ' for ' if stage.after else ''}{because}"
        yield f"{stage.stage.replace('_', ' '):<22}{text}"
    champion = found.champion
    if found.problem:
        yield row("champion", f"not known: {found.problem}")
    elif champion:
        yield row("champion", f"version {champion.version}, release {champion.release[:SHORT]}, registered "
                  f"{show_time(champion.registered)}")  # fmt: skip
    else:
        yield row("champion", "none")
    if found.release:
        yield row("release", f"{found.release[:SHORT]}, {describe_registration(found)}")
    for gateway in found.gateways:
        version = found.version_of(gateway.release)
        which = f"release {gateway.release[:SHORT]}" if gateway.release else "no release yet"
        named = f"version {version}, " if version else ""
        yield row("gateway", f"{gateway.url} (pid {gateway.pid}): {gateway.status}, {named}{which}")
    if not found.gateways:
        yield row("gateway", "none")
    for one in found.commands:
        yield row("at work", f"{one.command} (pid {one.pid})")
    if found.decision:
        yield row(
            "last retrain", f"{found.decision.decision} on {show_time(found.decision.time)}: {found.decision.why}"
        )
    if found.held_out:
        yield row("held-out items", found.held_out.summarize())
    if found.unsent or found.refused:
        yield row("MLflow", f"{found.unsent} runs not sent yet; of {found.refused} it refused entries "
                  f"({artifacts.REFUSED})")  # fmt: skip
    yield from found.conclusion.lines


def describe_registration(found: Status) -> str:
    version = found.version_of(found.release)
    if found.versions is None:
        return "not known whether registered"
    if version is None:
        return "not registered"
    aliases = ", ".join(next((one.aliases for one in found.versions if one.version == version), []))
    return f"version {version} ({aliases})" if aliases else f"version {version}"


def describe_version(version: ModelVersion, figures: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    aliases = f"  {', '.join(version.aliases)}" if version.aliases else ""
    return (
        f"  {version.version:>3}  {show_time(version.registered)}  {version.release[:SHORT]:<{SHORT}}  "
        f"{version.verdict or '-':<8}{shown}{aliases}"
    )


def describe_run(run: RecordedRun) -> str:
    took = f"{run.ended - run.began:,.0f} s" if run.ended else ""
    return (
        f"  {show_time(run.began)}  {run.status.lower():<9}{took:>9}  {run.result or '-':<10}"
        f"{run.name if run.reason in run.name else f'{run.name}: {run.reason}'}"
    )


def read_figures(release: str) -> dict[str, float]:
    """The candidate's metrics of a release, as far as its files are in this checkout."""
    from tasks.contracts.manifest import find_json

    return dict(find_json(artifacts.RELEASES / Path(release) / "manifest.json").get("metrics", {})) if release else {}


def row(name: str, text: str) -> str:
    return f"{name:<22}{text}"


def show_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
