"""``heptune search``: which params train best, by trials."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.answers import Answer, command
from flows.commands.overrides import SET, apply_changes, plan_changes
from flows.wiring import artifacts
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from flows.wiring.trainings.candidates import Candidates

app = typer.Typer()


@command(app)
def search(
    file: Annotated[
        Path | None, typer.Option(resolve_path=True, help="Keys of `search` in a file of their own.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set earlier trials aside and begin anew.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the space and say what is left to do.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Only write the best values into params.yaml.")] = False,
    changes: SET = None,
) -> Answer:
    """Train with other params, as `search` in params.yaml says, and rank by validation loss; killed, it goes on."""
    if apply:
        return apply_best()
    planned = plan_changes(changes)
    from flows import search as searching

    candidates = searching.read_candidates(file, planned.values)
    left = searching.foresee(candidates, fresh)
    if dry_run:
        return foresee(candidates, left)
    apply_changes(changes)
    outcome = searching.search(candidates, fresh)
    from tasks.search.report import describe_gap, describe_outcome

    page = configure() / artifacts.report("search")
    best = outcome.ranked[0].changes if outcome.ranked else {}
    lines = [describe_outcome(outcome), *([describe_gap(outcome)] if best else []), f"report: {page.as_uri()}"]
    if best:
        lines.append(f"next: `heptune search --apply`, then `heptune run`; or `heptune run {as_options(best)}`")
    error = None if best else PipelineError("no trial finished; the reasons are in the report")
    values = {"best": dict(best), "report": page.as_uri(), **outcome.figures}
    return Answer(values, "\n".join(lines), error)


def apply_best() -> Answer:
    """Write the best values into params.yaml."""
    from flows.search import best_file
    from flows.wiring.yaml_file import read_yaml

    path = best_file()
    if not path.is_file():
        raise PipelineError(f"{path}: missing; `heptune search` writes it when a trial has finished")
    changed = apply_changes([f"{key}={json.dumps(value)}" for key, value in read_yaml(path).items()])
    return Answer({"changed": changed}, "next: `heptune run`")


def foresee(candidates: Candidates, left: int) -> Answer:
    """What a search would do; nothing is written."""
    from tasks.search.run import show_value
    from tasks.search.study import count_planned

    settings = candidates.settings
    trials = count_planned(settings)
    to_do = f", {left:,} of them left" if left < trials else ""
    lines = [
        f"search {settings.title}: {trials:,} trials{to_do}, {settings.method.name}, pruning {settings.pruning.name}"
    ]
    for key, dimension in settings.space.items():
        shown = dimension if isinstance(dimension, list) else dimension.model_dump(exclude_none=True)
        lines.append(f"  {key}: {show_value(shown)}")
    values = {"dry_run": True, "trials": trials, "left": left, "space": settings.model_dump(mode="json")["space"]}
    return Answer(values, "\n".join(lines))


def as_options(changes: Mapping[str, Any]) -> str:
    """Values as ``-S`` options."""
    return " ".join(f"-S {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in changes.items())
