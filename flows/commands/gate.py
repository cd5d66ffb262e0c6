"""``heptune approve`` and ``heptune accept``: a person decides about prepared data."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.terminal import console

app = typer.Typer()


@app.command()
def approve(
    name: Annotated[str, typer.Option(help="Who approves.")],
    reason: Annotated[str, typer.Option(help="Why the data may be used although critical checks failed.")],
) -> None:
    """Let the findings of the last failed gate pass; a stage that waits for it goes on."""
    from flows.wiring.approval import approve as approve_findings

    found = approve_findings(name, reason)
    console.print(f"approved by {found.name}: {', '.join(found.checks)}; bring the stages up to date to use the data")


@app.command()
def accept() -> None:
    """Make the prepared data the version that the gate compares the next ones with."""
    from flows.wiring.approval import accept as accept_version

    console.print(f"accepted: {accept_version().rows:,} rows")
