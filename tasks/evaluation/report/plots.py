"""The figures of the evaluation page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.evaluation.outcomes import ModelName
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices.scores import Slice
from tasks.evaluation.wording import signed
from tasks.pages.page import PALETTE, plot_style
from tasks.pages.text import plot_text, show_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: dict[ModelName, str] = {"base": "#9ca3af", "champion": PALETTE[1], "candidate": PALETTE[0]}
GOOD, BAD = "#e3f5ec", "#fdeaea"
RESULT_COLOURS = {"better": "#11694c", "worse": "#9b1c28", "undecided": "#374151"}
# More labels make the figure taller than a screen.
MAXIMUM_LABELS = 24


def plot_differences(board: Scoreboard) -> Figure:
    """Forest plot: a row per metric and a column per opponent, zero in the middle of each."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    compared = [name for name in board.metrics if any(name in by_metric for by_metric in board.comparisons.values())]
    # The opponent of the verdict comes first.
    pairs = sorted(board.comparisons, key=lambda pair: pair != f"candidate_vs_{board.opponent}")
    with rc_context(plot_style()):
        figure = Figure(figsize=(9.4, 0.88 * len(compared) + 0.5), layout="constrained")
        grid: Any = figure.subplots(len(compared), len(pairs), squeeze=False)
        for row, name in zip(grid, compared, strict=True):
            for axes, pair in zip(row, pairs, strict=True):
                _difference_cell(axes, board, name, pair)
            row[0].set_ylabel(
                plot_text(board.metrics[name].title),
                rotation=0,
                ha="right",
                va="center",
                fontweight="bold",
                color="#111827",
            )
        for axes, pair in zip(grid[-1], pairs, strict=True):
            axes.set_xlabel(plot_text(f"candidate minus {pair.removeprefix('candidate_vs_')}"), labelpad=5)
    return figure


def _difference_cell(axes: Any, board: Scoreboard, name: str, pair: str) -> None:
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    comparison = board.comparisons[pair].get(name)
    if comparison is None:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "not comparable", transform=axes.transAxes, ha="center", va="center", color="#6b7280")
        return
    limit = max(abs(comparison.low), abs(comparison.high), comparison.detectable) * 1.15 or 1.0
    better_side = 1 if comparison.higher_is_better else -1
    axes.axvspan(0, better_side * limit, color=GOOD, lw=0)
    axes.axvspan(0, -better_side * limit, color=BAD, lw=0)
    axes.axvline(0, color="#6b7280", lw=1)
    colour = RESULT_COLOURS[comparison.result]
    axes.plot([comparison.low, comparison.high], [0, 0], color=colour, lw=3, solid_capstyle="butt")
    axes.plot([comparison.difference], [0], "o", color=colour, ms=7)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-1, 1)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", labelsize=8, pad=2)
    title = f"{signed(comparison.difference)}   [{signed(comparison.low)}, {signed(comparison.high)}]"
    axes.set_title(plot_text(title), fontsize=9, color="#374151", pad=3)


def plot_scores(board: Scoreboard) -> Figure:
    """One panel per metric: a bar with interval per model."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(plot_style()):
        count = len(board.metrics)
        figure = Figure(figsize=(min(9.4, 1.9 * count + 0.6), 2.9), layout="constrained")
        panels: Any = figure.subplots(1, count, squeeze=False)[0]
        for axes, (name, metric) in zip(panels, board.metrics.items(), strict=True):
            top = 0.0
            for position, model in enumerate(board.outcomes):
                value, low, high = board.estimates[(model, name)]
                axes.bar(position, value, color=COLOURS[model], width=0.72)
                axes.plot([position, position], [low, high], color="#111827", lw=1.3)
                axes.annotate(
                    plot_text(show_score(value)),
                    (position, high),
                    (0, 4),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
                top = max(top, high)
            if name == "intent_accuracy" and board.ceiling is not None:
                axes.axhline(board.ceiling, color="#111827", lw=1, ls=(0, (4, 3)))
                top = max(top, board.ceiling)
            axes.set_ylim(0, top * 1.16 or 1.0)
            axes.set_xticks(
                range(len(board.outcomes)),
                [plot_text(model) for model in board.outcomes],
                rotation=30,
                ha="right",
                fontsize=9,
            )
            axes.grid(visible=False, axis="x")
            arrow = "↑" if metric.higher_is_better else "↓"
            axes.set_title(plot_text(f"{metric.title} {arrow}"), fontsize=10, fontweight="bold")
    return figure


def plot_losses(board: Scoreboard) -> Figure:
    """Distribution of the items' losses per model."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    losses = {model: outcome.losses for model, outcome in board.outcomes.items()}
    top = float(np.quantile(np.concatenate(list(losses.values())), 0.995)) or 1.0
    edges = np.linspace(0, top, 41)
    with rc_context(plot_style()):
        figure = Figure(figsize=(8.6, 2.8), layout="constrained")
        axes: Any = figure.subplots()
        for model, values in losses.items():
            clipped = values.clip(max=top)
            axes.hist(clipped, edges, histtype="stepfilled", color=COLOURS[model], alpha=0.28)
            axes.hist(clipped, edges, histtype="step", color=COLOURS[model], lw=1.6, label=plot_text(model))
            axes.axvline(float(np.median(values)), color=COLOURS[model], lw=1.2, ls=(0, (4, 3)))
        axes.set_xlabel("loss of the reference answer, nats per token")
        axes.set_ylabel("items")
        axes.legend()
    return figure


def plot_slices(board: Scoreboard, primary: str, slices: Sequence[Slice]) -> Figure:
    """The slices on which the candidate is worst, a line from the opponent's score to the candidate's."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = slices[:MAXIMUM_LABELS]
    with rc_context(plot_style()):
        figure = Figure(figsize=(8.6, 0.27 * len(shown) + 0.9), layout="constrained")
        axes: Any = figure.subplots()
        for position, part in enumerate(shown):
            ends = [part.values[board.opponent], part.values["candidate"]]
            axes.plot(ends, [position, position], color="#cbd5e1", lw=3, zorder=1, solid_capstyle="round")
        for model in board.outcomes:
            values = [part.values[model] for part in shown]
            small = model not in ("candidate", board.opponent)
            axes.scatter(
                values, range(len(shown)), s=22 if small else 52, color=COLOURS[model], label=plot_text(model), zorder=2
            )
        axes.set_yticks(range(len(shown)), [f"{plot_text(part.name, 40)} ({part.items})" for part in shown], fontsize=9)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        if board.metrics[primary].bounded:
            axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel(plot_text(board.metrics[primary].title))
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
