"""``heptune plan``: what a training would take, before anything is prepared, downloaded or loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.answers import Answer, command
from flows.commands.overrides import SET, plan_changes

if TYPE_CHECKING:
    from flows.commands.foresight.base import FoundBase
    from flows.commands.foresight.data import FoundData
    from tasks.training.plan import Plan
    from tasks.training_setup.costs import Costs
    from tasks.training_setup.resolve import Resolution

app = typer.Typer()
GIB, MIB = 2**30, 2**20
LEAST_PRICE = 0.01


@command(app)
def plan(
    machine: Annotated[
        str | None,
        typer.Option(help="Another machine than this: 8xh100, a100, l4, t4, laptop, ..., or '{device: cuda, ...}'."),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of an epoch, where nothing is prepared.")] = None,
    conversations: Annotated[int | None, typer.Option(min=1, help="With --tokens: their conversations.")] = None,
    tokens_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Speed of the training; by default that of the last one here.")
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="Price of the machine, an hour.")] = None,
    watts: Annotated[float | None, typer.Option(min=0, help="Power of the machine while it trains.")] = None,
    changes: SET = None,
) -> Answer:
    """What a training would take: method, memory in parts, steps, time, cost; -S asks without writing."""
    from flows.commands.foresight.base import find_base
    from flows.commands.foresight.data import find_data
    from flows.commands.foresight.machines import find_stated
    from tasks.training_setup.costs import foresee_costs, sum_costs
    from tasks.training_setup.phases import resolve_phases

    planned = plan_changes(changes)
    params = planned.params
    found_machine, machine_name = find_stated(machine)
    base, setup = find_base(params), params.training_setup
    each = [find_data(params, phase, tokens, conversations) for phase in setup.each_phase()]
    data, counts = each[-1], [one.counts for one in each]
    resolution = resolve_phases(setup, base.shape, counts, found_machine)
    rate, rate_source = tokens_per_s, "as stated"
    if rate is None and machine is None:
        rate, rate_source = find_rate(base.shape.parameters)
    phases = [(phase, foresee_costs(phase, rate, price_per_hour, watts)) for phase in resolution.plan.phases]
    costs = sum_costs([one for _, one in phases])
    values = {
        "changed": [change.values for change in planned.changes],
        "base": {"name": base.name, "source": base.source, **base.shape.figures},
        "data": {"source": data.source, **data.counts.figures},
        "machine": {"name": machine_name, **found_machine.model_dump()},
        "plan": resolution.plan.model_dump(mode="json"),
        "memory": {"total": resolution.memory.total, **vars(resolution.memory)},
        "phases": [
            {
                "objective": phase.objective.name,
                "steps": phase.steps,
                "memory": phase.predicted_memory_bytes,
                **asdict(one),
            }
            for phase, one in phases
        ],
        "tokens_per_second": rate,
        **asdict(costs),
        "repeated_trainings": params.evaluation.repeats,
        "warnings": list(resolution.warnings),
    }
    lines = [
        *(str(change) for change in planned.changes),
        *describe(resolution, base, data, machine_name),
        *(describe_phases(phases) if len(phases) > 1 else ()),
        *describe_costs(costs, rate, rate_source),
        *([row("repeats", f"evaluation makes {more}")] if (more := params.evaluation.describe_repeats()) else []),
    ]
    return Answer(values, "\n".join(lines))


def find_rate(parameters: int) -> tuple[float | None, str]:
    """Tokens a second of the last training of this checkout, where it was of a base of this size."""
    from flows.commands.state.mlflow_store import open_store
    from flows.wiring import artifacts
    from tasks.contracts.errors import PipelineError
    from tasks.contracts.manifest import find_json

    before = find_json(artifacts.metrics("training_setup")).get("parameters")
    if before is not None and before != parameters:
        return None, ""
    try:
        return open_store().read_throughput(), "as the last training here"
    except PipelineError:
        return None, ""


def describe(resolution: Resolution, base: FoundBase, data: FoundData, machine_name: str) -> Iterator[str]:
    """The plan in lines, the name of each in front."""
    from tasks.pages.text import plural

    plan, memory = resolution.plan, resolution.memory
    machine = plan.made_for
    yield row("base", f"{base.name}, {base.shape.parameters:,} parameters (from {base.source})")
    yield row(
        "data", f"{plural(data.counts.examples, 'conversation')}, {plan.tokens:,} tokens an epoch ({data.source})"
    )
    hardware = f"{machine.cores} cores, {machine.memory_bytes / GIB:.1f} GiB"
    if machine.device == "cuda":
        cards = f"{machine.accelerators} x {machine.accelerator} of {machine.accelerator_memory_bytes / GIB:.1f} GiB"
        hardware = f"{cards}, {hardware}"
    yield row("machine", f"{machine_name}: {hardware}")
    yield row("method", f"{plan.method.describe()}; {plan.trainable_parameters:,} trainable parameters")
    processes = (
        f"{plan.batch_size} x {plan.accumulation_steps} accumulated x {plural(plan.world_size, 'process', 'processes')}"
    )
    last = ", in the last phase" if plan.before else ""
    rows = f"rows of {plan.max_tokens} tokens, {plan.rows:,} rows an epoch"
    yield row("batch", f"{processes}, {plan.precision}, {rows}{last}")
    over = f"over {plan.epochs:.3g} epochs, {plan.steps_per_epoch:,} an epoch"
    yield row("steps", f"{plan.all_steps:,} in {len(plan.phases)} phases" if plan.before else f"{plan.steps:,} {over}")
    available = machine.training_memory_bytes // (plan.world_size if machine.device == "cpu" else 1)
    peak = f"{show_bytes(memory.total)} of {show_bytes(available)} for each process, at its peak"
    largest = max(range(len(plan.phases)), key=lambda place: plan.phases[place].predicted_memory_bytes)
    yield row("memory", f"{peak}, in phase {largest + 1}:" if plan.before else f"{peak}:")
    for name, size in vars(memory).items():
        if size:
            yield f"  {name:<14}{show_bytes(size):>10}"


def describe_phases(phases: Sequence[tuple[Plan, Costs]]) -> Iterator[str]:
    """A line for each training of the run."""
    from tasks.contracts.progress import say_time

    for number, (plan, costs) in enumerate(phases, start=1):
        time = "" if costs.seconds is None else f", about {say_time(costs.seconds)}"
        yield row(
            f"phase {number}",
            f"{plan.objective.describe()}; {plan.steps:,} steps over {plan.epochs:.3g} epochs, {costs.tokens:,} "
            f"tokens, {show_bytes(plan.predicted_memory_bytes)}{time}",
        )


def describe_costs(costs: Costs, rate: float | None, rate_source: str) -> Iterator[str]:
    from tasks.contracts.progress import say_time

    if costs.seconds is None:
        yield row("time", f"{costs.tokens:,} tokens; state --tokens-per-s to see time, cost and energy")
        return
    yield row(
        "time", f"about {say_time(costs.seconds)}: {costs.tokens:,} tokens at {rate:,.0f} a second, {rate_source}"
    )
    if costs.price is not None:
        yield row("cost", f"about {costs.price:,.2f}" if costs.price >= LEAST_PRICE else f"less than {LEAST_PRICE}")
    if costs.kilowatt_hours is not None:
        yield row("energy", f"about {costs.kilowatt_hours:,.3g} kWh")


def row(name: str, text: str) -> str:
    return f"{name:<10}{text}"


def show_bytes(size: Any) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= 10 * GIB else f"{size / MIB:,.0f} MiB"
