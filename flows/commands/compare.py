"""``heptune compare``: methods, optimizers or objectives on the same task, budget and seeds."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.commands.evaluation import ITEMS, METRICS, SUITES, compare_models
from flows.wiring import artifacts
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError

app = typer.Typer()


@command(app)
def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Two or more models, on the same items: versions, runs, folders, base, tuned or champion."),
    ] = None,
    metric: METRICS = None,
    items: ITEMS = None,
    suites: SUITES = False,
    methods: Annotated[
        str | None, typer.Option(help="Training methods to compare, by their names with commas, or all.")
    ] = None,
    optimizers: Annotated[str | None, typer.Option(help="Optimizers to compare, likewise.")] = None,
    objectives: Annotated[
        str | None,
        typer.Option(help="Objectives to compare, likewise, by what each makes of the same held-out answers."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of each training.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each choice, with seeds 0, 1, ...")] = 3,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            help="Learning rate to try for each choice, several times for several; by default that of the params.",
        ),
    ] = None,
    search_rates: Annotated[
        bool,
        typer.Option(
            "--search-rates",
            help="Look for the learning rate that suits each choice, from --rate or that of the params on; only the "
            "best is trained with every seed.",
        ),
    ] = False,
    validation_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows on which the loss is measured; by default as the params say.")
    ] = None,
    watts: Annotated[
        float | None, typer.Option(min=0, help="Power of the machine while it trains, for energy.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set earlier trainings aside and begin anew.")] = False,
) -> Answer:
    """Compare models on the same items; or train with every choice of a kind, and rank them by quality and cost."""
    kinds = {"methods": methods, "optimizers": optimizers, "objectives": objectives}
    asked = {kind: words for kind, words in kinds.items() if words is not None}
    if models and not asked:
        return compare_models(models, metric, items, suites)
    if asked and (models or metric or items or suites):
        named = " ".join(models or ["--metric, --items or --suites"])
        raise PipelineError(
            f"found {named} beside {' and '.join(f'--{kind}' for kind in asked)}; expected models that are there, or "
            "choices to train with"
        )
    if len(asked) != 1:
        raise PipelineError(
            f"found {' and '.join(f'--{kind}' for kind in asked) or 'nothing to compare'}; give one of "
            f"{', '.join(f'--{kind}' for kind in kinds)}, such as --methods all"
        )
    from flows import comparison
    from tasks.search.comparison import TABLE, as_json, describe_comparison

    ((kind, words),) = asked.items()
    order = comparison.ComparisonOrder(
        kind, comparison.list_names(kind, words), steps, seeds, tuple(rate or ()), search_rates, validation_rows, watts
    )
    found = comparison.compare(order, fresh)
    page = configure() / artifacts.report("comparison")
    text = f"{describe_comparison(found)}\nreport: {page.as_uri()}\ntable: {page.with_name(TABLE)}"
    error = None if found.finished else PipelineError("no training finished; the reasons are in the report")
    return Answer(as_json(found), text, error)
