"""The loss curve, the figures and the page of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts.manifest import write_json
from tasks.fine_tuning.curve import Point, Shape, diagnose, smooth
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.train import Run
from tasks.pages.page import Page, Tone, plot_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG_FROM = 30  # a curve that falls to so small a part of its height is drawn on a logarithmic axis

_TONES: dict[Shape, Tone] = {
    "falling": "good",
    "flat": "warn",
    "overfitting": "warn",
    "rising": "bad",
    "short": "plain",
}


def write_report(
    run: Run, splits: Splits, curve_path: Path, page_path: Path, metrics_path: Path
) -> dict[str, float | int]:
    """Write ``curve.json``, ``index.html`` and ``metrics.json``.

    Args:
        run: The finished run.
        splits: What it was trained on.
        curve_path: Steps with loss, eval_loss, lr and grad_norm.
        page_path: The page.
        metrics_path: The figures.

    Returns:
        The figures.
    """
    diagnosis = diagnose(run.curve)
    figures = measure(run, splits)
    write_json(curve_path, [{k: v for k, v in asdict(point).items() if v is not None} for point in run.curve])
    write_json(metrics_path, figures)
    page = Page("Fine-tuning", diagnosis.text, verdict=diagnosis.shape, tone=_TONES[diagnosis.shape])
    page.cards(_cards(figures))
    page.figure(
        plot_losses(run.curve),
        "Loss",
        "Nats per token of the answers. Training: mean of the steps since the point before, thin; smoothed, thick.",
    )
    page.figure(plot_rates(run.curve), "Learning rate and gradient", "Norm of the gradient before clipping.")
    page.table("The run", ["fact", "value"], _facts(run, splits))
    if splits.train.dropped or splits.train.cut:
        rows = [*splits.train.dropped.items()]
        if splits.train.cut:
            rows.append((f"cut at {run.plan.max_tokens} tokens, the rest is used", splits.train.cut))
        page.table("Conversations not used whole", ["reason", "conversations"], rows)
    page.link("curve.json", "The curve as numbers")
    page.write(page_path)
    return figures


def measure(run: Run, splits: Splits) -> dict[str, float | int]:
    """The figures of a run, a function of its files alone."""
    losses = [p.loss for p in run.curve if p.loss is not None]
    watched = [p.eval_loss for p in run.curve if p.eval_loss is not None]
    figures: dict[str, float | int] = {
        "steps": run.plan.steps,
        "epochs": run.plan.epochs,
        "rows": len(splits.train),
        "rows_dropped": sum(splits.train.dropped.values()),
        "rows_cut": splits.train.cut,
        "tokens_per_epoch": int(splits.train.offsets[-1]),
        "supervised_tokens_per_epoch": splits.train.supervised,
        "trained_parameters": run.trained,
        "bytes": run.bytes,
        "train_loss": smooth(losses)[-1],
    }
    if watched:
        figures |= {
            "validation_loss_before": watched[0],
            "validation_loss": watched[-1],
            "validation_loss_lowest": min(watched),
        }
    return figures


def _cards(figures: dict[str, float | int]) -> dict[str, float | int]:
    names = {
        "validation_loss_before": "validation loss before",
        "validation_loss": "validation loss after",
        "train_loss": "training loss, last",
        "steps": "steps",
        "trained_parameters": "trained weights",
    }
    return {words: figures[key] for key, words in names.items() if key in figures}


def _facts(run: Run, splits: Splits) -> Sequence[tuple[str, object]]:
    plan = run.plan
    settings = plan.method.model_dump()
    name = settings.pop("name")
    packing = "whole conversations packed (bfd)" if plan.packing == "bfd" else "one conversation per row"
    return [
        ("method", name + "".join(f", {k} {_shown(v)}" for k, v in settings.items())),
        ("trained weights", run.trained),
        ("weights in all", run.parameters),
        ("size of what came out, bytes", run.bytes),
        ("conversations", len(splits.train)),
        ("tokens of an epoch", int(splits.train.offsets[-1])),
        ("tokens with loss of an epoch", splits.train.supervised),
        ("epochs", plan.epochs),
        ("optimizer steps", plan.steps),
        ("rows per step", plan.batch_size * plan.accumulation_steps * plan.world_size),
        ("longest row, tokens", plan.max_tokens),
        ("rows", packing + (", batches stratified by class" if splits.train.classes is not None else "")),
        ("weight of a row in the loss", _describe_weights(splits)),
        ("optimizer", plan.optimizer),
        ("learning rate, peak", plan.learning_rate),
        ("schedule", f"{plan.schedule} after {plan.warmup_steps:,} steps of warm-up"),
        ("weight decay", plan.weight_decay),
        ("gradient clipped at", plan.clip_norm),
        ("precision", plan.precision),
        ("device", f"{plan.device}, {plan.world_size} x {plan.threads} threads"),
        ("validation conversations", len(splits.validation)),
        ("seed", plan.seed),
    ]


def _describe_weights(splits: Splits) -> str:
    weights = splits.train.weights
    return "1" if weights is None else f"{weights.min():.3g} to {weights.max():.3g}, by class"


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def plot_losses(curve: Sequence[Point]) -> Figure:
    """Training loss, raw and smoothed, and validation loss over steps."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure()
        axes = figure.subplots()
        trained = [(p.step, p.loss) for p in curve if p.loss is not None]
        watched = [(p.step, p.eval_loss) for p in curve if p.eval_loss is not None]
        if trained:
            steps, losses = zip(*trained, strict=True)
            axes.plot(steps, losses, color="C0", linewidth=0.8, alpha=0.35)
            axes.plot(steps, smooth(losses), color="C0", linewidth=2, label="training")
        if watched:
            steps, losses = zip(*watched, strict=True)
            axes.plot(steps, losses, color="C1", linewidth=2, marker="o", markersize=4, label="validation")
            best_step, lowest = min(watched, key=lambda pair: pair[1])
            axes.annotate(
                f"{lowest:.3f}",
                (best_step, lowest),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                color="C1",
            )
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss, nats per token")
        seen = [loss for _, loss in (*trained, *watched) if loss > 0]
        if seen and max(seen) > LOG_FROM * min(seen):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend()
    return figure


def plot_rates(curve: Sequence[Point]) -> Figure:
    """Learning rate and norm of the gradient over steps."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 2.2))
        left, right = figure.subplots(1, 2)
        for axes, name, label in ((left, "lr", "learning rate"), (right, "grad_norm", "norm of the gradient")):
            found = [(p.step, getattr(p, name)) for p in curve if getattr(p, name) is not None]
            axes.plot([step for step, _ in found], [value for _, value in found], linewidth=1.5)
            axes.set_xlabel("optimizer step")
            axes.set_title(label, fontsize=10, loc="left")
            axes.set_ylim(bottom=0)
        figure.tight_layout()
    return figure
