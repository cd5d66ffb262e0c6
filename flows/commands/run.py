"""``heptune run``: bring the stages up to date, and say what came of it and what is next."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.answers import Answer, command
from flows.commands.overrides import SET, apply_changes, plan_changes
from flows.commands.terminal import show_stage
from flows.wiring import artifacts
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from flows.commands.state.conclusion import Conclusion
    from flows.commands.state.stale import StageState

app = typer.Typer()


def complete_stage(incomplete: str) -> list[str]:
    """Stages that begin so, for the shell."""
    from flows.wiring.staleness import STAGES

    return [name for name in STAGES if name.startswith(incomplete)]


@command(app)
def run(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="Stages, each after what it stands on; all by default.", autocompletion=complete_stage),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for Prefect and MLflow.")] = "by hand",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another pipeline instead of refusing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run these stages even when nothing changed.")] = False,
    single_item: Annotated[
        bool, typer.Option("--single-item", help="Only these stages, on what is there, as `dvc repro --single-item`.")
    ] = False,
    changes: SET = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, why, and what it took last.")
    ] = False,
) -> Answer:
    """Bring the seven stages up to date; unchanged ones are skipped."""
    began = time.monotonic()
    # Nearly all of this is imports, whose objects live until the end: looking for garbage takes a tenth of the time.
    gc.disable()
    from flows.wiring.staleness import STAGES, list_unchanged

    stages = stages or list(STAGES)
    if dry_run:
        return foresee_run(stages, changes, force, single_item)
    changed = apply_changes(changes, wait)
    unchanged = not force and list_unchanged(stages, wait, single_item)
    gc.enable()
    outcome: dict[str, str] = {}

    def report(name: str, result: str, seconds: float) -> None:
        outcome[name] = result
        show_stage(name, result, seconds)

    error = None
    if unchanged:
        for name in stages:
            report(name, "Unchanged", (time.monotonic() - began) / len(stages))
    else:
        from flows.pipeline import run_pipeline

        try:
            run_pipeline(reason, stages, wait=wait, force=force, report=report, single_item=single_item)
        except PipelineError as failure:
            if str(failure).partition(":")[0] not in STAGES:  # nothing ran
                raise
            error = failure
    page = (configure() / artifacts.INDEX).as_uri()
    conclusion = conclude_run(outcome, error)
    values = {"changed": changed, "stages": outcome, "report": page, **conclusion.values}
    return Answer(values, "\n".join([f"report: {page}", *conclusion.lines]), error)


def conclude_run(outcome: dict[str, str], error: PipelineError | None) -> Conclusion:
    """The verdict and the next command, after these stages have run or one of them has failed."""
    from flows.commands.state.conclusion import conclude, conclude_failure
    from flows.commands.state.stale import inspect_stages
    from flows.wiring.params import read_params
    from flows.wiring.staleness import STAGES

    if error:
        return conclude_failure(error)
    left: list[StageState] = [] if set(outcome) >= set(STAGES) else inspect_stages()
    return conclude(left, read_params().deployment.release.model)


def foresee_run(stages: Sequence[str], changes: list[str] | None, force: bool, single_item: bool) -> Answer:
    """What `run` would do; nothing is written.

    Raises:
        PipelineError: A stage is unknown, or the params or changes of them are wrong.
    """
    from flows.commands.state.mlflow_store import open_store
    from flows.commands.state.stale import inspect_stages
    from flows.wiring.staleness import check, order_stages

    check(stages)
    planned = plan_changes(changes)
    wanted = order_stages(stages, single_item, force, planned.params)
    try:
        seconds = open_store().read_seconds()
    except PipelineError:
        seconds = {}
    rows: list[dict[str, Any]] = []
    for state in inspect_stages(planned.values):
        if state.stage not in wanted:
            continue
        reasons = [*state.reasons, *(["--force"] if force and state.stage in stages else [])]
        # Alone, a stage does not wait for what it reads.
        after = [] if single_item else [stage for stage in state.after if stage in wanted]
        rows.append(
            {
                "stage": state.stage,
                "run": "yes" if reasons else "maybe" if after else "no",
                "reasons": reasons,
                "after": after,
                "seconds": round(seconds[state.stage], 1) if state.stage in seconds else None,
            }
        )
    working = [row for row in rows if row["run"] != "no"]
    known = [row["seconds"] for row in working if row["seconds"] is not None]
    values = {
        "dry_run": True,
        "changed": [change.values for change in planned.changes],
        "stages": rows,
        "seconds": sum(known) if len(known) == len(working) else None,
    }
    lines = [str(change) for change in planned.changes] + [describe_foreseen(row) for row in rows]
    if not working:
        lines.append("nothing to do")
    elif known:
        unknown = len(working) - len(known)
        lines.append(
            f"about {sum(known):,.0f} s, as these stages took last"
            + (f"; not known of {unknown} of them" if unknown else "")
        )
    return Answer(values, "\n".join(lines))


def describe_foreseen(row: dict[str, Any]) -> str:
    what = {"yes": "would run", "maybe": "may run", "no": "unchanged"}[row["run"]]
    after = ", ".join(stage.replace("_", " ") for stage in row["after"])
    because = "; ".join(row["reasons"]) or (f"if {after} writes something else" if after else "")
    took = f"{row['seconds']:7.0f} s" if row["run"] != "no" and row["seconds"] is not None else " " * 9
    return f"{row['stage'].replace('_', ' '):<22}{what:<11}{took}  {because}".rstrip()
