"""The pictures of a search: losses over the trials, importances, and every trial as a line through its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.pages.page import PALETTE, plot_style
from tasks.pages.text import plot_text
from tasks.search.axis_scale import scale_losses, scale_values
from tasks.search.run import short_key
from tasks.search.space import Dimension
from tasks.search.trials import SearchTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_LABEL = 22
PRUNED_COLOUR = "#9ca3af"


def plot_history(trials: Sequence[SearchTrial]) -> Figure:
    """The loss of every trial and the lowest so far."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 2.6))
        axes = figure.subplots()
        finished = [(t.number, t.loss) for t in trials if t.state == "finished" and t.loss is not None]
        pruned = [(t.number, t.loss) for t in trials if t.state == "pruned" and t.loss is not None]
        lowest: list[float] = []
        for _, loss in finished:
            lowest.append(min([loss, *lowest[-1:]]))
        numbers = [number for number, _ in finished]
        axes.step(numbers, lowest, where="post", color=PALETTE[1], linewidth=1.5, label="lowest so far")
        axes.plot(numbers, [loss for _, loss in finished], "o", color=PALETTE[0], markersize=5, label="finished")
        if pruned:
            axes.plot(*zip(*pruned, strict=True), "x", color=PRUNED_COLOUR, markersize=6, label="pruned, last loss")
        axes.set_xlabel("trial")
        axes.set_ylabel("validation loss")
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize=8)
    return figure


def plot_importances(importances: Mapping[str, float]) -> Figure:
    """A bar for each key."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 0.6 + 0.34 * len(importances)))
        axes = figure.subplots()
        names = [plot_text(short_key(key)) for key in importances]
        bars = axes.barh(names, list(importances.values()), color=PALETTE[0], height=0.62)
        axes.bar_label(bars, [plot_text(f"{share:.0%}") for share in importances.values()], padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.set_xlim(0, max(importances.values()) * 1.15)
        axes.xaxis.set_visible(False)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
    return figure


def plot_parallel(trials: Sequence[SearchTrial], space: Mapping[str, Dimension]) -> Figure:
    """An axis for each key and one for the loss; a line for each finished trial, the darker the lower its loss."""
    import matplotlib
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    finished = sorted(
        (trial for trial in trials if trial.state == "finished" and trial.loss is not None),
        key=lambda trial: -(trial.loss or 0.0),
    )
    losses = [trial.loss or 0.0 for trial in finished]
    scales = [*(scale_values(space[key]) for key in space), scale_losses(losses)]
    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(max(7.2, 1.5 * len(scales)), 3.4))
        axes = figure.subplots()
        colours = matplotlib.colormaps["viridis_r"]
        ranks = [number / max(1, len(finished) - 1) for number in range(len(finished))]
        lines = []
        for trial, loss in zip(finished, losses, strict=True):
            places = [scale.place(trial.labels[key]) for key, scale in zip(space, scales, strict=False)]
            lines.append(list(enumerate([*places, scales[-1].place(loss)])))
        widths = [2.4 if number == len(finished) - 1 else 1.0 for number in range(len(finished))]
        axes.add_collection(
            LineCollection(lines, colors=[colours(0.05 + 0.9 * share) for share in ranks], linewidths=widths)
        )
        for number, scale in enumerate(scales):
            axes.axvline(number, color="#9ca3af", linewidth=0.8, zorder=0)
            for place, text in scale.ticks:
                # Above the place, or below the lowest one: lines to the same value of the next key run at its height.
                below = place == 0
                axes.annotate(
                    plot_text(text, LONGEST_LABEL),
                    (number, place),
                    (4, -4 if below else 4),
                    textcoords="offset points",
                    fontsize=7.5,
                    va="top" if below else "bottom",
                    color="#374151",
                    bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1},
                )
        axes.set_xlim(-0.1, len(scales) - 0.6)
        axes.set_ylim(-0.1, 1.1)
        names = [*map(short_key, space), "validation loss"]
        axes.set_xticks(range(len(scales)), [plot_text(name, 28) for name in names])
        axes.tick_params(axis="x", labelsize=8, length=0)
        axes.yaxis.set_visible(False)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure
