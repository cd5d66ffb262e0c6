"""``heptune approve`` and ``heptune accept``: a person decides about prepared data."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.answers import Answer, command

app = typer.Typer()


@command(app)
def approve(
    name: Annotated[str, typer.Option(help="Who approves.")],
    reason: Annotated[str, typer.Option(help="Why the data may be used although critical checks failed.")],
) -> Answer:
    """Let the findings of the last failed gate pass; a stage that waits for it goes on."""
    from flows.wiring.people.approval import approve as approve_findings

    found = approve_findings(name, reason)
    return Answer(
        {"name": found.name, "reason": reason, "checks": found.checks},
        f"approved by {found.name}: {', '.join(found.checks)}\nnext: heptune run",
    )


@command(app)
def accept() -> Answer:
    """Make the prepared data the version that the gate compares the next ones with."""
    from flows.wiring.people.approval import accept as accept_version

    rows = accept_version().rows
    return Answer({"rows": rows}, f"accepted: {rows:,} rows")
