"""``heptune synthesize``: rows written by a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import console
from flows.wiring.settings import configure

app = typer.Typer()


@app.command()
def synthesize(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would ask and cost.")] = False,
    prompts: Annotated[
        Path | None, typer.Option(help="Only copy the prompts into this folder, to change them.")
    ] = None,
) -> None:
    """Have a teacher write rows, check them, and put them below data/raw; killed, it goes on where it was."""
    if prompts is not None:
        from tasks.synthesis.wording import copy_templates

        console.print(f"{prompts}: {len(copy_templates(prompts))} written; now set synthesis.prompts")
        return
    from flows import synthesis

    if dry_run:
        shares = (1.0, 0.5)
        for share, steps in zip(shares, synthesis.preview(shares), strict=True):
            console.print(f"with {share:.0%} of the prompts and of the answers accepted, about")
            for found in steps:
                show_estimate(found.step, found.calls, found.prompt_tokens, found.completion_tokens, found.cost)
            show_estimate(
                "all",
                sum(found.calls for found in steps),
                sum(found.prompt_tokens for found in steps),
                sum(found.completion_tokens for found in steps),
                sum(found.cost for found in steps),
            )
        limits = synthesis.read_settings().limits
        console.print(f"limits: calls {limits.calls or 'none'}, cost {limits.cost or 'none'}")
        return
    figures = synthesis.synthesize()
    console.print(
        f"{synthesis.target(synthesis.read_settings())}: {figures['rows']:,} rows, {figures['acceptance_rate']:.0%} of "
        f"the proposed; {figures['calls']:,} calls, cost {figures['cost']:.4g}",
    )
    console.print(f"report: {(configure() / 'reports/synthesis/index.html').as_uri()}")


def show_estimate(step: str, calls: int, prompt: int, completion: int, cost: float) -> None:
    console.print(f"  {step:<14}{calls:>9,} calls{prompt:>13,} tokens in{completion:>13,} out   cost {cost:,.4f}")
