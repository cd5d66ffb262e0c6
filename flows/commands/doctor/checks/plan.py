"""The plan in ``models/plan``: complete, of this version, and for this machine."""

from __future__ import annotations

from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts
from tasks.contracts.errors import PipelineError


def examine(here: Surroundings) -> Iterator[Finding]:
    from tasks.training.plan import check_machine, load_plan

    if not artifacts.PLAN.is_dir() or not any(artifacts.PLAN.iterdir()):
        return
    try:
        problems = check_machine(load_plan(artifacts.PLAN), here.machine)
    except PipelineError as error:
        yield Finding("warning", str(artifacts.PLAN), str(error), "`heptune run training_setup --force`")
        return
    for problem in problems:
        found, _, fix = problem.rpartition("; ")
        yield Finding("error", str(artifacts.PLAN), found, fix)
