"""The loss curve, the figures and the page of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.headline import write_headline
from tasks.contracts.manifest import write_json
from tasks.fine_tuning.curve import Point, find_last_loss, smooth, split_phases
from tasks.fine_tuning.diagnosis import Diagnosis, Shape, diagnose
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.language_models.long_rows import OUTCOMES
from tasks.pages.page import Page, Tone, count_steps, plot_style
from tasks.pages.text import plot_text, plural
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.mixture import count_tasks, list_task_figures
from tasks.training.objectives import AnyObjective
from tasks.training.objectives.data import NOUNS
from tasks.training.plan import Plan
from tasks.training.plan_text import (
    describe_clipping,
    describe_ends,
    describe_kept,
    describe_longer,
    describe_patience,
    describe_schedule,
    list_changes,
)
from tasks.training.quantization.measure import TRAINED, WeightPart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIAGNOSIS = "diagnosis.json"
SHOWN_STEPS = 8
LOGARITHMIC_FROM = 30  # ratio of the highest to the lowest loss above which the axis is logarithmic

_BADGES: dict[Shape, tuple[str, Tone]] = {
    "falling": ("loss fell", "good"),
    "flat": ("loss unchanged", "warn"),
    "overfitting": ("overfitting", "warn"),
    "rising": ("loss rose", "bad"),
    "short": ("too short to tell", "plain"),
    "diverging": ("diverging", "bad"),
    "rate too high": ("learning rate too high", "warn"),
    "rate too low": ("learning rate too low", "warn"),
    "noisy": ("noisy", "warn"),
    "plateau": ("loss fell to a plateau", "good"),
    "underfitting": ("underfitting", "warn"),
}


def write_report(
    run: Run, splits: Splits, curve_path: Path, page_path: Path, metrics_path: Path
) -> dict[str, float | int]:
    """Write ``curve.json``, ``diagnosis.json`` beside it, ``index.html`` and ``metrics.json``.

    Args:
        run: The finished run.
        splits: Training and validation rows.
        curve_path: File of the steps with loss, eval_loss, lr and grad_norm.
        page_path: The page to write.
        metrics_path: File of the figures.

    Returns:
        The figures.
    """
    objective = run.plan.objective
    diagnosis = diagnose(run.last_curve, objective.loss_in, objective.loss_tells)
    figures = measure(run, splits)
    write_json(
        curve_path, [{k: v for k, v in asdict(point).items() if v is not None and v != {}} for point in run.curve]
    )
    write_json(metrics_path, figures)
    write_json(curve_path.with_name(DIAGNOSIS), {**asdict(diagnosis), "unit": objective.loss_in})
    page = Page("Fine-tuning", f"{diagnosis.text}{_describe_stop(run)}", *_BADGES[diagnosis.shape], stage="fine_tuning")
    page.cards(_cards(figures))
    page.figure(
        plot_losses(run.curve, diagnosis, objective.loss_in, [step for step, _ in run.borders]),
        "Loss",
        f"{_describe_unit(objective)}{' in the last phase' if run.borders else ''}. Training loss: mean of the steps "
        f"since the previous point (thin), and its exponential moving average (thick).{_describe_unlike(run.plan)}",
    )
    for name, meaning in run.plan.figures.items():
        if any(name in point.figures or f"eval_{name}" in point.figures for point in run.curve):
            page.figure(plot_figure(run.curve, name), _title(name), f"{meaning}.")
    if names := list_task_figures(splits.validation):
        page.figure(plot_tasks(run.curve, names), "Validation loss by task", f"{_capital(objective.loss_in)}.")
        page.table("Tasks", TASK_COLUMNS, _task_rows(run, splits))
    page.figure(
        plot_rates(run.curve), "Learning rate and gradient norm", "The gradient norm is measured before clipping."
    )
    if run.samples:
        page.table(
            "Answers while it was trained",
            ["step", "which", "prompt", "answer", "reward", "advantage"],
            [[one.step, one.why, one.prompt, one.answer, one.reward, one.advantage] for one in run.samples],
            "The best, the worst and a random one of some rollouts; all are beside the checkpoints, samples/*.parquet.",
        )
    if warnings := _list_warnings(run):
        page.listing(warnings, "Warnings")
    page.table("Run", ["property", "value"], _facts(run, splits))
    page.table("Weights in memory", ["part", "weights", "MB", "bits a weight"], _weight_rows(run.weights))
    if run.outcome:
        page.table("What the method chose", ["property", "value"], list(run.outcome.items()))
    if splits.train.dropped or splits.train.cut:
        rows = [*splits.train.dropped.items()]
        if splits.train.cut:
            outcome = OUTCOMES[run.plan.long_rows]
            rows.append((f"longer than {run.plan.max_tokens} tokens, {outcome}", splits.train.cut))
        page.table("Rows left out, cut or split", ["reason", NOUNS[run.plan.objective.rows][1]], rows)
    page.link("curve.json", "Loss curve as JSON (curve.json)")
    page.write(page_path)
    return figures


def write_losses(
    curve: Sequence[Point], training: Path, validation: Path, headline: Path, kept_step: int | None = None
) -> dict[str, float]:
    """Write the losses as DVC plots them, a file a curve, and the loss that tells runs apart.

    Args:
        curve: The run's points.
        training: File of step, loss, learning rate and gradient norm.
        validation: File of step and loss; without validation rows an empty list.
        headline: File of the last validation loss, or of the last training loss where there is none.
        kept_step: Step whose weights are kept, and whose losses tell runs apart; the last one by default.

    Returns:
        The headline figures.
    """
    trained = [point for point in curve if point.loss is not None]
    validated = [point for point in curve if point.eval_loss is not None]
    write_json(training, [{"step": p.step, "loss": p.loss, "lr": p.lr, "grad_norm": p.grad_norm} for p in trained])
    write_json(validation, [{"step": point.step, "loss": point.eval_loss} for point in validated])
    kept = [point for point in curve if kept_step is None or point.step <= kept_step]
    losses = [point.eval_loss for point in kept if point.eval_loss is not None]
    last = losses[-1] if losses else find_last_loss(kept)
    return write_headline(headline, {} if last is None else {"loss": last})


def measure(run: Run, splits: Splits) -> dict[str, float | int]:
    """The figures of a run; they hold no times, so the same run gives the same bytes."""
    kept = [point for point in run.last_curve if point.step <= run.kept_step]
    validated = [p.eval_loss for p in kept if p.eval_loss is not None]
    figures: dict[str, float | int] = {
        "steps": run.steps,
        "epochs": run.epochs,
        "rows": len(splits.train),
        "rows_dropped": sum(splits.train.dropped.values()),
        "rows_cut": splits.train.cut,
        "tokens_per_epoch": int(splits.train.offsets[-1]),
        "supervised_tokens_per_epoch": splits.train.supervised,
        "trained_parameters": run.trained,
        "bytes": run.bytes,
    }
    if (last := find_last_loss(kept)) is not None:
        figures["train_loss"] = last
    if validated:
        figures |= {
            "validation_loss_before": validated[0],
            "validation_loss": validated[-1],
            "validation_loss_lowest": min(validated),
        }
    for name in (*run.plan.objective.figures, *list_task_figures(splits.validation)):
        if values := [point.figures[f"eval_{name}"] for point in kept if f"eval_{name}" in point.figures]:
            figures |= {f"validation_{name}_before": values[0], f"validation_{name}": values[-1]}
    return figures


def _describe_unit(objective: AnyObjective) -> str:
    """What the losses are counted in, a sentence without its end."""
    if not objective.loss_tells:
        return f"In validation {objective.loss_in}; what training minimises is no measure of it"
    of_what = f" of the {'documents' if objective.rows == 'texts' else 'answers'}" * (objective.unit == "token")
    return f"{_capital(objective.loss_in)}{of_what}"


def _describe_stop(run: Run) -> str:
    """That, where and why a run was stopped early."""
    if run.steps >= run.plan.all_steps:
        return ""
    return f" It was stopped early at step {run.steps:,} of {run.plan.all_steps:,}: {describe_patience(run.plan)}."


def _describe_unlike(plan: Plan) -> str:
    """In what the validation loss is another one than the training loss."""
    parts = ["cross-entropy"] if plan.objective.can.token_loss and not isinstance(plan.loss, CrossEntropy) else []
    parts += ["of the moving average of the weights"] if plan.ema_decay is not None else []
    trained = f" What is trained on is {plan.loss.describe()}." if "cross-entropy" in parts else ""
    return f"{trained} Validation loss: {' '.join(parts)}." if parts else ""


def _list_warnings(run: Run) -> list[str]:
    """What happened while it trained, and is to be known before the result is used."""
    warnings = []
    if run.skipped:
        first = ", ".join(f"{step:,}" for step in run.skipped[:SHOWN_STEPS])
        more = " and others" if len(run.skipped) > SHOWN_STEPS else ""
        warnings.append(
            f"{plural(len(run.skipped), 'step')} of {run.steps:,} changed nothing, since the loss or the gradient was "
            f"not a number: {first}{more}. The batches are beside the checkpoints, not-finite-step-*.json."
        )
    if run.plan.batch_halved:
        warnings.append(
            f"Memory ran out with {2 * run.plan.batch_size} rows a forward pass, so the run took half of them and "
            "accumulated twice as often: as many rows a step."
        )
    return warnings


def _title(figure: str) -> str:
    """The title of a figure: ``kl_weight`` is KL weight."""
    words = figure.replace("_", " ")
    return words.replace("kl", "KL", 1) if words.startswith("kl") else _capital(words)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cards(figures: dict[str, float | int]) -> dict[str, float | int]:
    names = {
        "validation_loss_before": "validation loss before",
        "validation_loss": "validation loss after",
        "train_loss": "training loss of the last logged steps",
        "steps": "steps",
        "trained_parameters": "trainable parameters",
    }
    return {name: figures[key] for key, name in names.items() if key in figures}


def _facts(run: Run, splits: Splits) -> Sequence[tuple[str, object]]:
    plan = run.plan
    rows = "packed conversations (best-fit decreasing)" if plan.packing == "bfd" else "one conversation per row"
    stratified = ", batches stratified by class" if splits.train.classes is not None else ""
    return [
        ("objective", ", then ".join(phase.objective.describe() for phase in plan.phases)),
        ("method", plan.method.describe()),
        ("trainable parameters", run.trained),
        ("all parameters", sum(part.weights for part in run.weights)),
        ("saved weights", f"{run.bytes / 1e6:,.1f} MB"),
        (f"training {NOUNS[plan.objective.rows][1]}", len(splits.train)),
        ("tokens per epoch", int(splits.train.offsets[-1])),
        ("supervised tokens per epoch", splits.train.supervised),
        ("epochs", f"{run.epochs:.3g}"),
        ("optimizer steps", _describe_steps(run)),
        ("rows per step", plan.batch_size * plan.accumulation_steps * plan.world_size),
        ("rows of a forward pass", f"{plan.batch_size}{', half of what was planned' if plan.batch_halved else ''}"),
        ("maximum row length, tokens", plan.max_tokens),
        ("rows", rows + stratified),
        describe_longer(plan),
        *([("mixture", plan.mixture.describe())] if plan.mixture else []),
        *([("loss", plan.loss.describe())] if plan.objective.can.token_loss else []),
        ("loss weight of a row", _describe_weights(splits)),
        ("optimizer", plan.optimizer.describe()),
        ("peak learning rate", plan.learning_rate),
        ("schedule", describe_schedule(plan)),
        *list_changes(plan),
        ("weight decay", plan.weight_decay),
        ("gradient", describe_clipping(plan)),
        ("gradient checkpointing", plan.gradient_checkpointing),
        ("ends before the last step", describe_ends(plan)),
        ("weights kept", describe_kept(plan)),
        ("precision", plan.precision),
        ("device", f"{plan.device}, {plan.world_size} × {plural(plan.threads, 'thread')}"),
        (f"validation {NOUNS[plan.objective.rows][1]}", len(splits.validation)),
        ("seed", plan.seed),
    ]


def _weight_rows(parts: Sequence[WeightPart]) -> list[list[object]]:
    """Every part, and the base as a whole with all that decodes it."""
    base = [part for part in parts if part.name != TRAINED]
    whole = WeightPart("the base, all parts", sum(p.weights for p in base), sum(p.bytes for p in base))
    return [
        [part.name, part.weights, f"{part.bytes / 1e6:,.2f}", f"{part.bits:.3f}"]
        for part in (*parts, *([whole] if len(base) > 1 else []))
    ]


def _describe_steps(run: Run) -> str:
    planned = run.plan.all_steps
    stopped = f" of {planned:,}, stopped early" if run.steps < planned else ""
    kept = f"; the weights are those of step {run.kept_step:,}" if run.kept_step < run.steps else ""
    return f"{run.steps:,}{stopped}{kept}"


def _describe_weights(splits: Splits) -> str:
    weights = splits.train.weights
    return "1" if weights is None else f"{weights.min():.3g} to {weights.max():.3g}, by class"


def plot_losses(
    curve: Sequence[Point],
    diagnosis: Diagnosis | None = None,
    unit: str = "nats per token",
    borders: Sequence[int] = (),
) -> Figure:
    """Training loss, raw and smoothed, and validation loss over steps, with the step that the diagnosis speaks of.

    Args:
        curve: The run's points, of all phases.
        diagnosis: Of the last phase.
        unit: What its validation loss is counted in.
        borders: Steps after which another phase begins.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure()
        axes = figure.subplots()
        trained = [(p.step, p.loss) for p in curve if p.loss is not None]
        validated = [(p.step, p.eval_loss) for p in curve if p.eval_loss is not None]
        # Losses of two phases are of different things, so that no line joins them.
        for number, phase in enumerate(split_phases(curve, borders)):
            hidden = "_" * (number > 0)  # one entry of the legend for all phases
            if points := [(p.step, p.loss) for p in phase if p.loss is not None]:
                steps, losses = zip(*points, strict=True)
                axes.plot(steps, losses, color="C0", linewidth=0.8, alpha=0.35)
                axes.plot(steps, smooth(losses), color="C0", linewidth=2, label=plot_text(f"{hidden}training"))
            if points := [(p.step, p.eval_loss) for p in phase if p.eval_loss is not None]:
                steps, losses = zip(*points, strict=True)
                line: dict[str, Any] = {
                    "linewidth": 2,
                    "marker": "o",
                    "markersize": 4,
                    "label": plot_text(f"{hidden}validation"),
                }
                axes.plot(steps, losses, color="C1", **line)
                best_step, lowest = min(points, key=lambda pair: pair[1])
        if validated:
            axes.annotate(
                plot_text(f"{lowest:.3f}"),
                (best_step, lowest),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                color="C1",
            )
        if diagnosis is not None and diagnosis.marked_step is not None:
            label = f"{diagnosis.shape}: step {diagnosis.marked_step:,}"
            axes.axvline(diagnosis.marked_step, color="0.45", linestyle=":", linewidth=1.2, label=plot_text(label))
        for number, border in enumerate(borders, start=2):
            axes.axvline(border, color="0.6", linewidth=1, label=plot_text(f"phase {number} begins"))
        count_steps(axes)
        axes.set_ylabel(plot_text("loss" if borders else f"loss, {unit}"))
        shown = [loss for _, loss in (*trained, *validated)]
        if shown and max(shown) > LOGARITHMIC_FROM * min(shown) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend()
    return figure


def plot_figure(curve: Sequence[Point], name: str) -> Figure:
    """One of the objective's figures over steps, in training and in validation."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 2.2))
        axes = figure.subplots()
        for key, label, color in ((name, "training", "C0"), (f"eval_{name}", "validation", "C1")):
            values = [(point.step, point.figures[key]) for point in curve if key in point.figures]
            if values:
                axes.plot(*zip(*values, strict=True), color=color, linewidth=1.5, label=plot_text(label))
        count_steps(axes)
        axes.legend()
    return figure


TASK_COLUMNS = ["task", "rows", "of an epoch's draws", "validation loss before", "after", "lowest"]


def _task_rows(run: Run, splits: Splits) -> list[list[object]]:
    """Each task with its rows, how often it is drawn, and its validation losses."""
    train, mixture = splits.train, run.plan.mixture
    if train.tasks is None or mixture is None:
        return []
    counts = count_tasks(train.tasks, train.task_names)
    quotas, rows = mixture.quotas(counts), list[list[object]]()
    for task, count in counts.items():
        key = f"eval_loss_of_{task}"
        losses = [p.figures[key] for p in run.curve if p.step <= run.kept_step and key in p.figures]
        shown = [f"{losses[0]:.4f}", f"{losses[-1]:.4f}", f"{min(losses):.4f}"] if losses else ["", "", ""]
        rows.append([task, count, quotas[task], *shown])
    return rows


def plot_tasks(curve: Sequence[Point], names: Sequence[str]) -> Figure:
    """The validation loss of each task over steps."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure()
        axes = figure.subplots()
        for name in names:
            values = [(point.step, point.figures[f"eval_{name}"]) for point in curve if f"eval_{name}" in point.figures]
            if values:
                axes.plot(
                    *zip(*values, strict=True), marker="o", markersize=4, label=plot_text(name[len("loss_of_") :])
                )
        count_steps(axes)
        axes.legend()
    return figure


def plot_rates(curve: Sequence[Point]) -> Figure:
    """Learning rate and gradient norm over steps."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 2.2))
        left, right = figure.subplots(1, 2)
        for axes, name, label in ((left, "lr", "learning rate"), (right, "grad_norm", "gradient norm")):
            values = [(p.step, getattr(p, name)) for p in curve if getattr(p, name) is not None]
            axes.plot([step for step, _ in values], [value for _, value in values], linewidth=1.5)
            count_steps(axes)
            axes.set_title(plot_text(label), fontsize=10, loc="left")
            axes.set_ylim(bottom=0)
        figure.tight_layout()
    return figure
