"""Pictures of a window beside its baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.corpus.threads import on_one_thread
from tasks.monitoring.sample import Array, TrafficSample
from tasks.pages.page import PALETTE, plot_style
from tasks.pages.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE_COLOUR, WINDOW_COLOUR = PALETTE[5], PALETTE[1]
BINS = 24


def draw_features(sample: TrafficSample) -> Figure:
    """Histogram of every numeric feature, baseline and window in the same bins, as shares of their rows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(plot_style()):
        columns = 2
        lines = -(-len(sample.numbers) // columns)
        figure = Figure(figsize=(9.6, 2.0 * lines), layout="constrained")
        axes = np.atleast_1d(figure.subplots(lines, columns, squeeze=False)).ravel()
        for axis, (name, values) in zip(axes, sample.numbers.items(), strict=False):
            draw_histogram(axis, values, sample.reference_rows)
            axis.set_title(plot_text(name), fontsize=10, loc="left", color="#374151")
        for axis in axes[len(sample.numbers) :]:
            axis.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9)
        return figure


def draw_histogram(axis: Axes, values: Array, reference_rows: int) -> None:
    """Share of the rows in each bin; the highest 1% is in the last bin, so that outliers do not flatten the plot."""
    low, high = float(values.min()), float(np.quantile(values, 0.99))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    parts = (
        (clipped[:reference_rows], "baseline", BASELINE_COLOUR, True),
        (clipped[reference_rows:], "window", WINDOW_COLOUR, False),
    )
    for part, label, colour, filled in parts:
        weights = np.full(len(part), 1 / len(part))
        axis.hist(
            part,
            bins=edges.tolist(),
            weights=weights,
            label=plot_text(label),
            color=colour,
            alpha=0.35 if filled else 1.0,
            histtype="stepfilled" if filled else "step",
            linewidth=1.6,
        )
    axis.tick_params(labelsize=8)


def draw_embeddings(sample: TrafficSample) -> Figure:
    """Prompts in the first two principal components of their embeddings; window rows on top."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    points = project(sample.embeddings)
    with rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axis = figure.subplots()
        parts = (
            (points[: sample.reference_rows], "baseline", BASELINE_COLOUR, 0.35),
            (points[sample.reference_rows :], "window", WINDOW_COLOUR, 0.6),
        )
        for part, label, colour, alpha in parts:
            axis.scatter(part[:, 0], part[:, 1], s=11, color=colour, alpha=alpha, linewidths=0, label=plot_text(label))
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second principal component")
        axis.legend(loc="best", markerscale=1.8)
        return figure


@on_one_thread
def project(points: Array) -> Array:
    """The first two principal components, with the largest coordinate of each positive, which fixes the sign."""
    centred = points - points.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    flat: Array = centred @ vectors[:, ::-1][:, :2]
    signs = np.sign(flat[np.abs(flat).argmax(axis=0), np.arange(flat.shape[1])])
    return flat * np.where(signs == 0, 1.0, signs)


def draw_words(shares: list[tuple[str, float, float]]) -> Figure:
    """Share of prompts with each word, in baseline and window."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 0.32 * len(shares) + 0.9), layout="constrained")
        axis = figure.subplots()
        rows = np.arange(len(shares))[::-1]
        axis.barh(rows + 0.19, [100 * b for _, b, _ in shares], 0.38, color=BASELINE_COLOUR, label="baseline")
        axis.barh(rows - 0.19, [100 * w for _, _, w in shares], 0.38, color=WINDOW_COLOUR, label="window")
        axis.set_yticks(rows, [plot_text(word) for word, _, _ in shares])
        axis.grid(False, axis="y")
        axis.set_xlabel("% of prompts")
        axis.legend(loc="lower right")
        return figure
