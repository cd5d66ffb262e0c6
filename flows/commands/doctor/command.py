"""The command: every check in one process, every finding in one line; nothing is started or changed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from flows.commands.answers import Answer, command
from flows.commands.doctor.finding import SEVERITIES, Finding, Surroundings
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from flows.wiring.params import Params

app = typer.Typer()


@command(app)
def doctor() -> Answer:
    """What is wrong with the machine and the checkout, where, and what to do; fails where there is an error."""
    from flows.commands.doctor.checks import CHECKS
    from tasks.contracts.machine import find_machine
    from tasks.pages.text import plural

    found = examine(Surroundings(machine=find_machine(), params=read_params_if_valid()))
    counts = {severity: sum(one.severity == severity for _, one in found) for severity in SEVERITIES}
    values = {
        "checks": [name_of(check) for check in CHECKS],
        "findings": [{"check": check, **asdict(finding)} for check, finding in found],
        **{f"{severity}s": count for severity, count in counts.items()},
    }
    lines = [f"{finding.severity:<9}{finding}" for _, finding in found]
    told = [plural(count, severity) for severity, count in counts.items() if count]
    summary = f"{plural(len(CHECKS), 'check')}: {', '.join(told) or 'nothing wrong'}"
    error = PipelineError(f"{plural(counts['error'], 'error')}; mend what is listed") if counts["error"] else None
    return Answer(values, "\n".join([*lines, summary]), error)


def examine(here: Surroundings) -> list[tuple[str, Finding]]:
    """The findings of all checks with the check's name, errors first.

    A check that itself runs into a fault of the system says so, and the others go on.
    """
    from flows.commands.doctor.checks import CHECKS

    found: list[tuple[str, Finding]] = []
    for check in CHECKS:
        name = name_of(check)
        try:
            found += [(name, finding) for finding in check.examine(here)]
        except (OSError, ValueError, PipelineError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            found.append((name, Finding("error", name, f"could not be looked at ({reason})", "mend that first")))
    return sorted(found, key=lambda one: SEVERITIES.index(one[1].severity))


def name_of(check: object) -> str:
    return str(getattr(check, "__name__", "")).rpartition(".")[2]


def read_params_if_valid() -> Params | None:
    """The params, or None; a check tells what is wrong with them."""
    from flows.wiring.params import read_params

    try:
        return read_params()
    except PipelineError:
        return None
