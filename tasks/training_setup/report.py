"""The plan folder, its page and its figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, seal, write_json
from tasks.language_models.folder.shape import ModelShape
from tasks.pages.page import PALETTE, Page, count_steps, plot_style, show
from tasks.pages.text import as_sentence, plot_text, plural
from tasks.training.memory import MEANINGS, Memory
from tasks.training.methods.hooks import RunFacts
from tasks.training.methods.parts import Changing
from tasks.training.objectives.data import NOUNS
from tasks.training.plan import NAME, Plan
from tasks.training.plan_text import (
    describe_clipping,
    describe_ends,
    describe_kept,
    describe_longer,
    describe_schedule,
    list_changes,
)
from tasks.training_setup.counts import Counts
from tasks.training_setup.environment import fingerprint
from tasks.training_setup.launch_files import write_launch_files
from tasks.training_setup.resolve import Resolution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GIB = 2**30
SHOWN_PARTS = 12


def write_plan(resolution: Resolution, environment: Mapping[str, str], initial: Path, folder: Path) -> Path:
    """Write ``plan.json`` and what starts its processes, and seal the folder.

    Args:
        resolution: The plan.
        environment: Versions it was made with; recorded in the manifest.
        initial: The base model's folder; its manifest's hash is recorded.
        folder: Replaced when there.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise PipelineError(f"{folder}: cannot write ({error.strerror}); free some space and run again") from error
    write_json(folder / NAME, resolution.plan.model_dump(mode="json"))
    facts = {"environment": dict(environment), "initial": hash_file(initial / "manifest.json")}
    seal(folder, [folder / NAME, *write_launch_files(resolution.plan, folder)], facts)
    return folder


def write_report(
    resolution: Resolution,
    shape: ModelShape,
    counts: Counts,
    environment: dict[str, str],
    page_path: Path,
    metrics_path: Path,
) -> dict[str, float | int]:
    """Write ``index.html`` and ``metrics.json``.

    Args:
        resolution: The plan, its memory and its warnings.
        shape: The base model.
        counts: Tokens of the splits.
        environment: Versions.
        page_path: The page.
        metrics_path: The figures.

    Returns:
        The figures.
    """
    plan = resolution.plan
    figures: dict[str, float | int] = {
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "warmup_steps": plan.warmup_steps,
        "epochs": plan.epochs,
        "examples": plan.examples,
        "rows": plan.rows,
        "tokens": plan.tokens,
        "supervised_tokens": plan.supervised_tokens,
        "fill": round(_fill(plan), 6),
        "cut": counts.cut,
        "rows_without_loss": counts.without_loss,
        "parameters": shape.parameters,
        "trainable_parameters": plan.trainable_parameters,
        "predicted_memory_bytes": plan.predicted_memory_bytes,
    }
    write_json(metrics_path, figures)
    _page(resolution, shape, counts, environment).write(page_path)
    return figures


def _fill(plan: Plan) -> float:
    """Share of a row's positions that hold tokens."""
    return plan.tokens / max(plan.rows * plan.row_tokens, 1)


def _page(resolution: Resolution, shape: ModelShape, counts: Counts, environment: dict[str, str]) -> Page:
    plan, memory = resolution.plan, resolution.memory
    page = Page(
        "Training setup",
        f"{_describe_method(plan)} of a base of {shape.parameters:,} parameters, with {plan.trainable_parameters:,} "
        f"trainable ones: {plural(plan.steps, 'step')} over {plural(plan.examples, *NOUNS[plan.objective.rows])}, "
        f"{plan.epochs:.3g} {'epoch' if plan.epochs == 1 else 'epochs'}.",
        "check the warnings" if resolution.warnings else "fits",
        "warn" if resolution.warnings else "good",
        stage="training_setup",
    )
    page.cards(
        {
            "optimizer steps": plan.steps,
            "tokens per epoch": plan.tokens,
            "supervised": f"{plan.supervised_tokens / max(plan.tokens, 1):.0%}",
            "trainable parameters": plan.trainable_parameters,
            "predicted memory": f"{plan.predicted_memory_bytes / _GIB:.2f} GiB",
        }
    )
    if resolution.warnings:
        page.listing([as_sentence(warning) for warning in resolution.warnings], "Warnings")
    page.table("The plan", ["setting", "value"], _as_text(list_settings(plan, counts)))
    if plan.before is not None:
        rows = [
            [number, phase.objective.describe(), phase.examples, phase.steps, phase.learning_rate]
            for number, phase in enumerate(plan.phases, start=1)
        ]
        page.table("Phases", ["phase", "objective", "items", "steps", "peak learning rate"], rows)
    if resolution.choices:
        rows = [list(choice.split(": ", 1)) for choice in resolution.choices]
        page.table("Chosen, and why", ["choice", "why"], rows)
    page.figure(
        _schedule_figure(plan),
        "Learning rate",
        as_sentence(describe_schedule(plan)),
    )
    page.figure(
        _memory_figure(memory, plan),
        "Predicted memory of one process",
        f"{memory.total / _GIB:.2f} GiB of {plan.made_for.training_memory_bytes / _GIB:.1f} GiB, at its peak. "
        "Activations and logits are for full rows.",
    )
    page.table("Memory in parts", ["part", "MiB", "share", "what it is"], _memory_rows(memory))
    page.figure(
        _length_figure(counts, plan),
        "Lengths",
        f"{counts.longer:,} of {counts.rows:,} {NOUNS[plan.objective.rows][1]} are longer than {plan.max_tokens} "
        "tokens.",
    )
    if isinstance(plan.method, Changing):
        page.table("What is trained when", ["from step", "trained"], _part_rows(plan.method, plan, shape))
    if (config := getattr(plan.distribution, "config", None)) is not None:
        page.table("What DeepSpeed gets", ["key", "value"], _as_text(_flatten(config)))
    page.table("Machine and software", ["fact", "value"], _as_text(_machine_rows(plan, environment)))
    return page


def _part_rows(method: Changing, plan: Plan, shape: ModelShape) -> list[list[str]]:
    """The first periods; what is trained in later ones follows the same rule."""
    hooks = method.parts(shape.layout, RunFacts(plan.steps, plan.steps_per_epoch, plan.seed))
    shown = enumerate(hooks.begins[:SHOWN_PARTS])
    rows = [[f"{begin:,}", hooks.describe(shape.layout, number)] for number, begin in shown]
    left = len(hooks.begins) - SHOWN_PARTS
    return rows if left <= 0 else [*rows, ["...", f"{plural(left, 'more period')} until step {plan.steps:,}"]]


def _as_text(rows: list[list[Any]]) -> list[list[str]]:
    """Values of different types as text, so that the whole column is aligned left."""
    return [[name, show(value)] for name, value in rows]


def _describe_method(plan: Plan) -> str:
    """As the beginning of a sentence."""
    description = plan.method.describe()
    return description[0].upper() + description[1:]


def list_settings(plan: Plan, counts: Counts) -> list[list[Any]]:
    """What the plan says, a row of name and value each; what is nested has dotted names.

    Args:
        plan: The plan.
        counts: Tokens of the splits.
    """
    chosen = plan.method.model_dump(exclude={"name"})
    processes = plural(plan.world_size, "process", "processes")
    packed = (
        "bfd (best-fit decreasing): whole conversations packed into rows"
        if plan.packing == "bfd"
        else "none: one conversation per row"
    )
    return [
        ["method", _describe_method(plan)],
        *_flatten(chosen, "method."),
        ["objective", plan.objective.describe()],
        *([["loss", plan.loss.describe()]] if plan.objective.can.token_loss else []),
        ["learning rate", plan.learning_rate],
        ["schedule", describe_schedule(plan)],
        [
            "optimizer",
            f"{plan.optimizer.describe()}, weight decay {plan.weight_decay:g}, {describe_clipping(plan)}",
        ],
        *map(list, list_changes(plan)),
        ["distribution", plan.distribution.describe()],
        ["rows per step", f"{plan.batch_size} × {plan.accumulation_steps} accumulated × {processes}"],
        ["packing", packed],
        ["tokens per row", plan.row_tokens if plan.packing == "bfd" else plan.max_tokens],
        list(describe_longer(plan)),
        ["rows per epoch", plan.rows],
        ["share of positions filled", f"{_fill(plan):.1%}"],
        ["steps per epoch", plan.steps_per_epoch],
        ["epochs", f"{plan.epochs:.3g}"],
        ["precision", plan.precision if plan.precision == "fp32" else f"{plan.precision} autocast"],
        ["base weights", plan.quantization.describe()],
        ["gradient checkpointing", plan.gradient_checkpointing],
        ["seed", plan.seed],
        [f"validation {NOUNS[plan.objective.rows][1]}", counts.validation_examples],
        [
            "checkpoint, validate, log every",
            f"{plan.checkpoint_every_steps}, {plan.evaluate_every_steps}, {plan.log_every_steps} steps",
        ],
        ["ends before the last step", describe_ends(plan)],
        ["weights kept", describe_kept(plan)],
    ]


def _memory_rows(memory: Memory) -> list[list[Any]]:
    """Every part that is not zero, largest first, and their sum."""
    parts = sorted(((size, name) for name, size in vars(memory).items() if size), reverse=True)
    rows: list[list[Any]] = [
        [name, f"{size / 2**20:,.1f}", f"{size / memory.total:.0%}", MEANINGS[name]] for size, name in parts
    ]
    return [*rows, ["total", f"{memory.total / 2**20:,.1f}", "100%", "the peak of one process"]]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[list[Any]]:
    """Nested values as rows of dotted keys, lists as text."""
    rows: list[list[Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append([f"{prefix}{key}", ", ".join(map(show, value)) if isinstance(value, list) else value])
    return rows


def _machine_rows(plan: Plan, environment: dict[str, str]) -> list[list[Any]]:
    machine = plan.made_for
    rows: list[list[Any]] = [
        ["trained on", f"{plan.device}, {plan.world_size} × {plural(plan.threads, 'thread')}"],
        ["cores", machine.cores],
        ["main memory", f"{machine.memory_bytes / _GIB:.1f} GiB"],
        ["bf16 in hardware", machine.bf16],
    ]
    if machine.accelerators:
        memory = f"{machine.accelerator_memory_bytes / _GIB:.1f} GiB each"
        rows.append(["accelerators", f"{machine.accelerators} × {machine.accelerator}, {memory}"])
    rows.append(["software", ", ".join(f"{name} {found}" for name, found in environment.items())])
    rows.append(["fingerprint of the software", fingerprint(environment)])
    return rows


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, height), layout="constrained")


def _schedule_figure(plan: Plan) -> Figure:
    from matplotlib import rc_context

    with rc_context(plot_style()):
        figure = _figure(2.6)
        axes = figure.subplots()
        stride = max(1, plan.steps // 400)
        steps = sorted({*range(0, plan.steps, stride), plan.steps - 1, min(plan.warmup_steps, plan.steps - 1)})
        # Steps count from 1, as they do in the log and on the page of fine-tuning.
        axes.plot([step + 1 for step in steps], [plan.learning_rate_at(step) for step in steps], linewidth=1.8)
        count_steps(axes)
        axes.set_ylabel("learning rate")
        axes.set_xlim(0, plan.steps + (plan.steps == 1))
        axes.set_ylim(0, plan.learning_rate * 1.08)
        for epoch in range(1, int(plan.epochs) + 1):
            if epoch * plan.steps_per_epoch < plan.steps:
                axes.axvline(epoch * plan.steps_per_epoch, color="#9ca3af", linewidth=0.8, linestyle=":")
    return figure


def _memory_figure(memory: Memory, plan: Plan) -> Figure:
    from matplotlib import rc_context

    with rc_context(plot_style()):
        figure = _figure(1.9)
        axes = figure.subplots()
        total = 0.0
        colours = (*PALETTE, "#94a3b8", "#cbd5e1", "#fbbf24", "#e2e8f0")
        for (name, amount), colour in zip(vars(memory).items(), colours, strict=True):
            if not amount:
                continue
            axes.barh([0], [amount / _GIB], left=total, color=colour, label=plot_text(f"{name} {amount / _GIB:.2f}"))
            total += amount / _GIB
        available = plan.made_for.training_memory_bytes / _GIB
        if available < 4 * total:
            label = f"available {available:.1f}"
            axes.axvline(available, color="#111827", linewidth=1.2, linestyle="--", label=plot_text(label))
        axes.set_yticks([])
        axes.set_xlabel("GiB")
        axes.grid(axis="y", visible=False)
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return figure


def _length_figure(counts: Counts, plan: Plan) -> Figure:
    from matplotlib import rc_context

    with rc_context(plot_style()):
        figure = _figure(2.6)
        axes = figure.subplots()
        longest = max(counts.full_lengths, default=1)
        width = max(1, -(-longest // 60))
        axes.hist(
            list(counts.full_lengths), bins=list(range(0, longest + width + 1, width)), edgecolor="white", linewidth=0.4
        )
        if plan.max_tokens <= 1.5 * longest:
            axes.axvline(plan.max_tokens, color=PALETTE[4], linewidth=1.2, linestyle="--", label="max_tokens")
            axes.legend()
        one, several = NOUNS[plan.objective.rows]
        axes.set_xlabel(plot_text(f"tokens of each {one}, with all that the chat template adds", limit=80))
        axes.set_ylabel(plot_text(several))
        axes.set_xlim(left=0)
    return figure
