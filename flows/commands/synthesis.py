"""``heptune synthesize`` and ``heptune best-of-n``: rows written by a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.commands.overrides import SET, apply_changes, plan_changes
from flows.wiring import artifacts
from flows.wiring.settings import configure

app = typer.Typer()


@command(app)
def synthesize(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would ask and cost.")] = False,
    prompts: Annotated[
        Path | None, typer.Option(resolve_path=True, help="Only copy the prompts into this folder, to change them.")
    ] = None,
    changes: SET = None,
) -> Answer:
    """Have a teacher write rows, check them, and put them below data/raw; killed, it goes on where it was."""
    if prompts is not None:
        from tasks.synthesis.wording import copy_templates

        copied = copy_templates(prompts)
        return Answer(
            {"path": prompts, "prompts": copied}, f"{prompts}: {len(copied)} written; now set synthesis.prompts"
        )
    if dry_run:
        return estimate(changes)
    apply_changes(changes)
    from flows import synthesis

    figures = synthesis.synthesize()
    target, report = synthesis.target(synthesis.read_settings()), configure() / artifacts.report("synthesis")
    return Answer(
        {"path": target, "report": report.as_uri(), **figures},
        f"{target}: {figures['rows']:,} rows, {figures['acceptance_rate']:.0%} of the proposed; "
        f"{figures['calls']:,} calls, cost {figures['cost']:.4g}\nreport: {report.as_uri()}",
    )


@command(app)
def best_of_n(changes: SET = None) -> Answer:
    """Have a model answer prompts many times, and put its best answers below data/raw; killed, it goes on."""
    apply_changes(changes)
    from flows import sampling

    figures = sampling.sample()
    target, report = sampling.target(sampling.read_settings()), configure() / artifacts.report("sampling")
    return Answer(
        {"path": target, "report": report.as_uri(), **figures},
        f"{target}: {figures['rows']:,} rows of {figures['prompts_kept']:,} of {figures['prompts']:,} prompts; mean "
        f"reward {figures['mean_reward']:.3f} of an answer, {figures['mean_best_reward']:.3f} of a prompt's best\n"
        f"report: {report.as_uri()}",
    )


def estimate(changes: list[str] | None) -> Answer:
    """What a synthesis would ask and cost, if all or half of what the teacher writes is accepted."""
    planned = plan_changes(changes)
    from flows import synthesis

    settings = synthesis.read_settings(planned.params)
    shares = (1.0, 0.5)
    lines, values = [str(change) for change in planned.changes], []
    for share, steps in zip(shares, synthesis.preview(settings, shares), strict=True):
        in_all = {
            "step": "all",
            "calls": sum(found.calls for found in steps),
            "prompt_tokens": sum(found.prompt_tokens for found in steps),
            "completion_tokens": sum(found.completion_tokens for found in steps),
            "cost": sum(found.cost for found in steps),
        }
        rows = [asdict(found) for found in steps]
        lines += [f"with {share:.0%} of the prompts and of the answers accepted, about"]
        lines += [describe_estimate(**row) for row in [*rows, in_all]]
        values.append({"accepted": share, "steps": rows, **{key: in_all[key] for key in in_all if key != "step"}})
    limits = settings.limits
    lines.append(f"limits: calls {limits.calls or 'none'}, cost {limits.cost or 'none'}")
    changed = [change.values for change in planned.changes]
    return Answer(
        {
            "dry_run": True,
            "changed": changed,
            "estimates": values,
            "limits": {"calls": limits.calls, "cost": limits.cost},
        },
        "\n".join(lines),
    )


def describe_estimate(step: str, calls: int, prompt_tokens: int, completion_tokens: int, cost: float) -> str:
    return f"  {step:<14}{calls:>9,} calls{prompt_tokens:>13,} tokens in{completion_tokens:>13,} out   cost {cost:,.4f}"
