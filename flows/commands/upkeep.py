"""``heptune snapshot``, ``watch`` and ``retrain``: keep the model good."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.commands.overrides import SET, apply_changes, plan_changes
from flows.commands.terminal import show_stage

app = typer.Typer()


@command(app)
def snapshot(
    rows: Annotated[int, typer.Option(help="At most so many requests, the newest.")] = 1000,
) -> Answer:
    """Freeze the newest traffic and the champion's baseline into data/production."""
    from flows.wiring.releases.snapshot import snapshot as freeze

    frozen = freeze(rows=rows)
    return Answer(asdict(frozen), f"{frozen.window_rows} requests against {frozen.baseline_rows} of the baseline")


@command(app)
def watch(
    interval_s: Annotated[float, typer.Option(help="Seconds between two looks.")] = 300.0,
) -> None:
    """Snapshot, monitor and retrain on drift, again and again."""
    from flows.retraining import watch as look

    look(interval_s)


@command(app)
def purge(
    days: Annotated[float | None, typer.Option(help="Delete requests older than this; by default log_days.")] = None,
    key: Annotated[str | None, typer.Option(help="Delete requests of this key only, by its name; of any age.")] = None,
) -> Answer:
    """Delete logged requests and the feedback on them: old ones, or all of one key."""
    from flows.wiring.releases.serving import purge_log

    deleted = purge_log(days, key)
    return Answer({"deleted": deleted}, f"{deleted:,} requests deleted")


@command(app)
def retrain(
    reason: Annotated[str, typer.Option(help="Why.")] = "by hand",
    force: Annotated[bool, typer.Option("--force", help="Also without any new data, params or code.")] = False,
    changes: SET = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it would start, and why.")] = False,
) -> Answer:
    """New data from corrected traffic, the pipeline, and a promotion only on the verdict."""
    if dry_run:
        return foresee(changes)
    changed = apply_changes(changes)
    from flows.retraining import retrain as start

    decision = start(reason=reason, trigger="hand", report=show_stage, force=force)
    values = {"changed": changed, **decision.model_dump()}
    return Answer(values, f"{decision.decision}: {decision.why}")


def foresee(changes: list[str] | None) -> Answer:
    """Whether a retrain would start, by hand and by itself; nothing is written."""
    planned = plan_changes(changes)
    from flows.retraining import foresee_retrain

    by_hand, by_itself = (foresee_retrain(trigger) for trigger in ("hand", "schedule"))
    values = {
        "dry_run": True,
        "changed": [change.values for change in planned.changes],
        "would_start": by_hand.allowed,
        "would_start_by_itself": by_itself.allowed,
        "why": by_itself.why,
        "new_rows": len(by_hand.rows),
        "waiting_rows": by_hand.waiting,
    }
    lines = [str(change) for change in planned.changes]
    lines.append(f"by hand it would {'start' if by_hand.allowed else 'not start'}: {by_hand.why}")
    lines.append(f"by schedule or drift it would {'start' if by_itself.allowed else 'not start'}: {by_itself.why}")
    return Answer(values, "\n".join(lines))
