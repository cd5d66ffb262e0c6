"""Plots of the report and the data card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.pages.page import PALETTE, plot_style
from tasks.pages.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_lengths(prompts: Sequence[int], answers: Sequence[int]) -> Figure:
    """Histogram of the lengths of prompts and answers, in characters, on a logarithmic axis."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with matplotlib.rc_context(plot_style()):
        figure = Figure()
        axes = figure.add_subplot()
        lengths = [*prompts, *answers]
        shortest = max(min(lengths), 1)
        edges = np.geomspace(shortest, max(max(lengths), 2 * shortest), 41)
        for number, (name, values) in enumerate((("prompt", prompts), ("answer", answers))):
            if values:
                # As an array: Matplotlib converts the numbers of a list one by one.
                axes.hist(
                    np.asarray(values), bins=edges.tolist(), color=PALETTE[number], alpha=0.65, label=plot_text(name)
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        wide = edges[-1] > 1_000 * edges[0]
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("characters")
        axes.set_ylabel("rows")
        axes.legend()
    return figure


def plot_labels(names: Sequence[str], counts: Sequence[int]) -> Figure:
    """Bar chart of the rows per label, the most frequent first."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.6, 2.6))
        axes = figure.add_subplot()
        axes.bar(range(len(counts)), counts, color=PALETTE[2], width=0.8)
        axes.set_ylabel("rows")
        axes.grid(axis="x", visible=False)
        axes.margins(x=0.01)
        if len(names) <= 60:
            size = 8 if len(names) <= 30 else 6.5
            axes.set_xticks(range(len(names)), [plot_text(name, 28) for name in names], rotation=90, fontsize=size)
        else:
            axes.set_xlabel("labels, the most frequent first")
    return figure


def plot_class_balance(names: Sequence[str], splits: Mapping[str, Sequence[int]]) -> Figure:
    """Stacked bar chart of the rows per label and split."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.6, 0.24 * len(names) + 0.9))
        axes = figure.add_subplot()
        places = np.arange(len(names))
        left = np.zeros(len(names))
        for number, (split, counts) in enumerate(splits.items()):
            axes.barh(places, counts, left=left, color=PALETTE[number], height=0.7, label=plot_text(split))
            left += np.asarray(counts)
        _name_bars(axes, names)
        axes.set_xlabel("rows")
        # Above the bars, where no bar can cover it.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(splits))
    return figure


def plot_topics(names: Sequence[str], sizes: Sequence[int]) -> Figure:
    """Bar chart of the rows per topic, the largest first."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.6, 0.28 * len(names) + 0.9))
        axes = figure.add_subplot()
        axes.barh(range(len(sizes)), sizes, color=PALETTE[0], height=0.7)
        for place, size in enumerate(sizes):
            axes.text(size + max(sizes) * 0.01, place, plot_text(f"{size:,}"), va="center", fontsize=9, color="#374151")
        _name_bars(axes, names)
        axes.set_xlabel("rows in the sample")
    return figure


def _name_bars(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [plot_text(name, 34) for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
