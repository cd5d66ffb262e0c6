"""The command line: ``heptune COMMAND``.

Expected failures print one line and exit with 1. Heavy imports sit inside the commands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.wiring.settings import configure, log_to_terminal
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from tasks.annotation.rounds import Written

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune language models in seven versioned stages, and keep them good after they ship.",
)
keys = typer.Typer(no_args_is_help=True, help="API keys of the gateway.")
app.add_typer(keys, name="keys")
annotate = typer.Typer(no_args_is_help=True, help="Texts for people to label, and their labels.")
app.add_typer(annotate, name="annotate")
# Lines stay whole, so that what they name can be copied; what a person typed is no markup.
console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)


@app.command()
def run(
    stages: Annotated[list[str] | None, typer.Argument(help="Stages to bring up to date; all by default.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for Prefect and MLflow.")] = "by hand",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another pipeline instead of refusing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run even what has not changed.")] = False,
) -> None:
    """Bring the seven stages up to date; unchanged ones are skipped."""
    from flows.pipeline import STAGES, run_pipeline

    run_pipeline(reason, stages or STAGES, wait=wait, force=force, report=show_stage)
    console.print(f"report: {(configure() / 'reports/index.html').as_uri()}")


def show_stage(name: str, outcome: str, seconds: float) -> None:
    style = "green" if outcome == "Ran" else "dim"
    console.print(f"{name.replace('_', ' '):<22}{outcome:<11}{seconds:7.1f} s", style=style)


@app.command()
def params(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema instead.")] = False,
) -> None:
    """Check params.yaml and print it with all defaults filled in."""
    import yaml

    from flows.wiring.params import Params, read_params

    if schema:
        print(json.dumps(Params.model_json_schema(), indent=2))
        return
    print(yaml.safe_dump(read_params().model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")


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


@app.command()
def register() -> None:
    """Register the release that the last run built; doing it again changes nothing."""
    from flows.wiring.registry import open_registry

    found = open_registry().register()
    console.print(f"version {found.version}, release {found.release}")


@app.command()
def promote(
    version: Annotated[int | None, typer.Argument(help="Model version; the newest by default.")] = None,
    reason: Annotated[str, typer.Option(help="Why, kept with the version.")] = "by hand",
    force: Annotated[bool, typer.Option("--force", help="Promote against the verdict.")] = False,
) -> None:
    """Make a registered version the champion, if evaluation's verdict allows it."""
    from flows.wiring.registry import open_registry

    found = open_registry().promote(version, force=force, reason=reason)
    console.print(f"champion is version {found.version}, release {found.release}")


@app.command()
def rollback(reason: Annotated[str, typer.Option(help="Why, kept with the version.")] = "by hand") -> None:
    """Make the previous champion the champion again."""
    from flows.wiring.registry import open_registry

    found = open_registry().rollback(reason)
    console.print(f"champion is version {found.version}, release {found.release}")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address; anything but loopback needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8000,
) -> None:
    """Serve the champion over an OpenAI-compatible API; a new champion is swapped in."""
    from flows.wiring.params import read_params
    from flows.wiring.serving import serve as serve_champion

    serve_champion(read_params(), host, port)


@keys.command("add")
def add_key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make a key and print it, once."""
    from flows.wiring import artifacts
    from tasks.gateway import keys as ring

    print(ring.add_key(artifacts.KEYS, name))


@keys.command("list")
def list_keys() -> None:
    """Names of the keys."""
    from flows.wiring import artifacts
    from tasks.gateway import keys as ring

    for key in ring.read_keys(artifacts.KEYS):
        print(f"{key.id}  {key.name}")


@keys.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="Whose key.")]) -> None:
    """Take a key back; a running gateway follows."""
    from flows.wiring import artifacts
    from tasks.gateway import keys as ring

    ring.remove_key(artifacts.KEYS, name)


@annotate.command("next")
def annotate_next(
    items: Annotated[int, typer.Option(min=1, help="How many texts.")] = 100,
) -> None:
    """Write the texts of the pool that are most worth a label, as tasks for Label Studio."""
    from flows.commands.annotation import choose

    show_written(choose(items))


@annotate.command("import")
def annotate_import(
    export: Annotated[Path, typer.Argument(help="Export of Label Studio: JSON, JSON-MIN or CSV.")],
) -> None:
    """Read what people labelled: agreement, one label per text, rows for a source."""
    from flows.commands.annotation import bring_in

    found, alpha = bring_in(export)
    agreement = "not measurable" if alpha.value is None else f"alpha {alpha.value:.3f}"
    console.print(
        f"{found.new:,} of {len(found.tasks):,} texts have a label, {found.replaced:,} another than before; "
        f"agreement {agreement}"
    )
    console.print("a source of params.yaml reads them: {name: jsonl, path: data/raw/annotation/labels.jsonl}")
    console.print(f"report: {(configure() / 'reports/annotation/index.html').as_uri()}")


@annotate.command("export")
def annotate_export(
    suspects: Annotated[bool, typer.Option("--suspects", help="Only rows whose label looks wrong.")] = False,
) -> None:
    """Write prepared rows as tasks for Label Studio, each with a suggested label."""
    from flows.commands.annotation import take_out

    show_written(take_out(suspects))


def show_written(written: Written) -> None:
    console.print(f"{written.path}: {written.rows:,} texts; label_config.xml beside it is the labelling configuration")
    for note in written.notes:
        console.print(note)


@app.command()
def stop() -> None:
    """End the gateway that the demo left up."""
    from flows.commands.demo import stop_gateway

    console.print("stopped" if stop_gateway() else "no gateway is up")


@app.command()
def snapshot(
    rows: Annotated[int, typer.Option(help="At most so many requests, the newest.")] = 1000,
) -> None:
    """Freeze the newest traffic and the champion's baseline into data/production."""
    from flows.wiring.snapshot import snapshot as freeze

    frozen = freeze(rows=rows)
    console.print(f"{frozen.window_rows} requests against {frozen.baseline_rows} of the baseline")


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
    from flows.commands import synthesis

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


@app.command()
def retrain(reason: Annotated[str, typer.Option(help="Why.")] = "by hand") -> None:
    """New data from corrected traffic, the pipeline, and a promotion only on the verdict."""
    from flows.retraining import retrain as start

    decision = start(reason=reason, trigger="hand", report=show_stage)
    console.print(f"{decision.decision}: {decision.why}")


@app.command()
def watch(
    interval_s: Annotated[float, typer.Option(help="Seconds between two looks.")] = 300.0,
) -> None:
    """Snapshot, monitor and retrain on drift, again and again."""
    from flows.retraining import watch as look

    look(interval_s)


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's server and UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
) -> None:
    """Prefect server, worker, deployments, automation and MLflow's UI, until Ctrl-C."""
    from flows.commands.up import bring_up

    def ready(addresses: Mapping[str, str]) -> None:
        for name, url in addresses.items():
            console.print(f"{name:<10}{url}")
        console.print("Ctrl-C ends everything started here.")

    bring_up(prefect_port, mlflow_port, ready)


@app.command()
def demo(
    stop: Annotated[bool, typer.Option("--stop", help="End the gateway afterwards.")] = False,
) -> None:
    """The whole loop on the embedded model: train, serve, drift, retrain, swap."""
    from flows.commands.demo import demo as run_demo

    run_demo(Console(), stop)


@app.command("pretrain-base")
def pretrain_base(
    corpus: Annotated[Path, typer.Option(help="Folder with eltec_novels/ and digitalgov_news/.")],
    tokens: Annotated[int, typer.Option(help="Training tokens in all.")] = 20_004_864,
    target: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("models/base"),
) -> None:
    """Train the embedded base model again, or go on where an earlier run stopped."""
    from flows.wiring import artifacts
    from tasks.model_initialisation.pretraining.export import export_base
    from tasks.model_initialisation.pretraining.recipe import Recipe, pretrain

    recipe = Recipe(tokens=tokens)
    work = artifacts.STATE / "pretraining"
    pretrain(corpus, work, recipe)
    bits = export_base(work, target, recipe)
    console.print(f"{target}: held-out bits per byte {', '.join(f'{k} {v:.3f}' for k, v in bits.items())}")


def main() -> None:
    """Run a command; expected failures end in one line."""
    configure()
    log_to_terminal()
    try:
        app()
    except PipelineError as error:
        print(f"heptune: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("heptune: stopped; finished stages are kept, the next run goes on from there", file=sys.stderr)
        sys.exit(130)
