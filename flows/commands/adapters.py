"""``heptune adapters``: LoRA adapters of one base kept by name, cut, and combined.

Each was trained by a run of its own; what they do together depends on no stage, so none of it is one.
"""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.answers import Answer, command
from flows.wiring import artifacts
from flows.wiring.settings import configure

app = typer.Typer()
adapters = typer.Typer(no_args_is_help=True, help="LoRA adapters of one base: keep, cut, combine.")
app.add_typer(adapters, name="adapters")

NAME = Annotated[str, typer.Argument(help="Name of the adapter.")]


@command(adapters, "keep")
def keep(name: NAME) -> Answer:
    """Keep what was just trained as an adapter, with the rows of its task."""
    from flows.wiring.lock import one_at_a_time
    from tasks.adapters.store import keep_adapter

    with one_at_a_time(wait=True):
        kept = keep_adapter(
            artifacts.ADAPTERS, name, artifacts.INITIAL, artifacts.TUNED, artifacts.VALIDATION, artifacts.TEST
        )
    return Answer({"adapter": name, "folder": kept.folder, "rank": kept.rank}, f"kept {name}: {kept.made_by}")


@command(adapters, "list")
def list_adapters() -> Answer:
    """The adapters that are kept."""
    from tasks.training.stored_adapter import list_names, read_adapter

    found = [read_adapter(artifacts.ADAPTERS, name) for name in list_names(artifacts.ADAPTERS)]
    rows = [{"name": one.name, "rank": one.rank, "base": one.base, "made_by": one.made_by} for one in found]
    lines = [f"{one.name}  rank {one.rank}  base {one.base[:12]}  {one.made_by}" for one in found]
    return Answer({"adapters": rows}, "\n".join(lines) or "no adapters; `heptune adapters keep NAME` keeps one")


@command(adapters, "cut")
def cut(
    name: NAME,
    rank: Annotated[int, typer.Argument(min=1, help="Rank to cut it to.")],
    new: Annotated[str, typer.Option("--as", help="Name of the result.")],
) -> Answer:
    """Cut an adapter that DyLoRA trained to a lower rank."""
    from flows.wiring.lock import one_at_a_time
    from tasks.adapters.store import cut_stored

    with one_at_a_time(wait=True):
        made = cut_stored(artifacts.ADAPTERS, name, rank, new)
    return Answer({"adapter": new, "folder": made.folder, "rank": made.rank}, f"kept {new}: {made.made_by}")


@command(adapters, "combine")
def combine(
    name: Annotated[str, typer.Argument(help="Name of the result.")],
    of: Annotated[str, typer.Option(help="Adapters, such as invoices,parcels.")],
    how: Annotated[
        str, typer.Option(help="cat, svd, linear, ties, dare_linear, dare_ties or magnitude_prune.")
    ] = "cat",
    weights: Annotated[str | None, typer.Option(help="One for each, such as 1,0.5; 1 by default.")] = None,
    density: Annotated[float | None, typer.Option(help="Share of values that stay, for ways that prune.")] = None,
    search: Annotated[
        int | None, typer.Option(min=1, help="Search the weights on validation rows, with so many mixtures.")
    ] = None,
    beside: Annotated[str, typer.Option(help="Other ways that are measured only, such as linear,ties.")] = "",
    rows: Annotated[int, typer.Option(min=1, help="Rows of each task that are scored.")] = 200,
) -> Answer:
    """Combine adapters into one, and measure every model on every task."""
    from flows.wiring.lock import one_at_a_time
    from flows.wiring.overview import write_overview
    from tasks.adapters.combine import combine_adapters
    from tasks.adapters.combining import parse_combination, parse_weights
    from tasks.adapters.page import as_values, write_interference

    with one_at_a_time(wait=True):
        made_of, mixtures, found = combine_adapters(
            artifacts.ADAPTERS,
            name,
            split(of),
            artifacts.INITIAL,
            parse_combination(how),
            None if weights is None else parse_weights(weights),
            density,
            search,
            [parse_combination(way) for way in split(beside)],
            rows,
        )
        page = artifacts.report("adapters")
        write_interference(name, made_of, mixtures, found, page, page.with_name("interference.json"))
        write_overview()
    values = as_values(name, made_of, mixtures, found)
    report = (configure() / page).as_uri()
    disturbed = found.disturbed(mixtures[0].name)
    told = f"it disturbs {', '.join(disturbed)}" if disturbed else "it disturbs no task"
    return Answer({**values, "report": report}, f"kept {name}: {mixtures[0].name}; {told}\nreport: {report}")


def split(words: str) -> list[str]:
    """The names in a list with commas."""
    return [word.strip() for word in words.split(",") if word.strip()]
