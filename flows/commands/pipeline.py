"""``heptune run``, ``params``, ``sample`` and ``demo``."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.commands.terminal import show_stage
from flows.wiring import artifacts
from flows.wiring.settings import configure

app = typer.Typer()


@command(app)
def run(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages, each after what it stands on; all by default.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for Prefect and MLflow.")] = "by hand",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another pipeline instead of refusing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run these stages even when nothing changed.")] = False,
    single_item: Annotated[
        bool, typer.Option("--single-item", help="Only these stages, on what is there, as `dvc repro --single-item`.")
    ] = False,
) -> Answer:
    """Bring the seven stages up to date; unchanged ones are skipped."""
    began = time.monotonic()
    # Nearly all of this is imports, whose objects live until the end: looking for garbage takes a tenth of the time.
    gc.disable()
    from flows.wiring.staleness import STAGES, list_unchanged

    stages = stages or list(STAGES)
    unchanged = not force and list_unchanged(stages, wait, single_item)
    gc.enable()
    outcome = dict.fromkeys(stages, "Unchanged")
    if unchanged:
        for name in stages:
            show_stage(name, "Unchanged", (time.monotonic() - began) / len(stages))
    else:
        from flows.pipeline import run_pipeline

        outcome = run_pipeline(reason, stages, wait=wait, force=force, report=show_stage, single_item=single_item)
    report = (configure() / artifacts.INDEX).as_uri()
    return Answer({"stages": outcome, "report": report}, f"report: {report}")


@command(app)
def params(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema instead.")] = False,
) -> Answer:
    """Check params.yaml and print it with all defaults filled in."""
    import yaml

    from flows.wiring.params import Params, read_params

    if schema:
        model = Params.model_json_schema()
        return Answer(model, json.dumps(model, indent=2))
    found = read_params()
    from flows.wiring.preflight.sizes import tell_possible_verdicts

    tell_possible_verdicts(found)
    values = found.model_dump(mode="json")
    return Answer(values, yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip("\n"))


@command(app)
def sample(
    path: Annotated[Path, typer.Argument(resolve_path=True, help="CSV to write, such as data/raw/support.csv.")],
    rows: Annotated[int, typer.Option(min=10, help="Conversations drawn.")] = 1500,
    intents: Annotated[int, typer.Option(min=2, max=44, help="Kinds of request, the most frequent ones.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 1,
) -> Answer:
    """Write a table of an invented shop's help desk, to try with: question, answer, intent."""
    from tasks.sample_shop.example_file import write_example

    written = write_example(path, rows, intents, seed)
    return Answer({"path": path, "rows": written}, f"{path}: {written:,} rows")


@command(app)
def demo(
    stop: Annotated[bool, typer.Option("--stop", help="End the gateway afterwards.")] = False,
) -> None:
    """The whole loop on the embedded model: train, serve, drift, retrain, swap."""
    from rich.console import Console

    from flows.commands.demo import run_demo

    run_demo(Console(), stop)
