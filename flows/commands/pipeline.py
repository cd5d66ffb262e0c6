"""``heptune params``, ``sample`` and ``demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.commands.overrides import SET, apply_changes, plan_changes

app = typer.Typer()


@command(app)
def params(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema instead.")] = False,
    changes: SET = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With -S: print what it would be, write nothing.")] = False,
) -> Answer:
    """Check params.yaml and print it with all defaults filled in."""
    import yaml

    from flows.wiring.params import Params, read_params
    from flows.wiring.preflight.paths import check_inputs
    from flows.wiring.preflight.sizes import tell_possible_verdicts
    from flows.wiring.staleness import STAGES
    from tasks.contracts.errors import PipelineError

    if schema:
        model = Params.model_json_schema()
        return Answer(model, json.dumps(model, indent=2))
    if not dry_run:
        apply_changes(changes)
    found = plan_changes(changes).params if dry_run else read_params()
    tell_possible_verdicts(found)
    values = found.model_dump(mode="json")
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip("\n")
    try:
        check_inputs(found, STAGES, list(Params.model_fields))
    except PipelineError as error:
        return Answer(values, text, error)
    return Answer(values, text)


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
