"""``heptune snapshot``, ``watch`` and ``retrain``: keep the model good."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.commands.terminal import show_stage

app = typer.Typer()


@command(app)
def snapshot(
    rows: Annotated[int, typer.Option(help="At most so many requests, the newest.")] = 1000,
) -> Answer:
    """Freeze the newest traffic and the champion's baseline into data/production."""
    from flows.wiring.snapshot import snapshot as freeze

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
    from flows.wiring.serving import purge_log

    deleted = purge_log(days, key)
    return Answer({"deleted": deleted}, f"{deleted:,} requests deleted")


@command(app)
def retrain(reason: Annotated[str, typer.Option(help="Why.")] = "by hand") -> Answer:
    """New data from corrected traffic, the pipeline, and a promotion only on the verdict."""
    from flows.retraining import retrain as start

    decision = start(reason=reason, trigger="hand", report=show_stage)
    return Answer(decision.model_dump(), f"{decision.decision}: {decision.why}")
