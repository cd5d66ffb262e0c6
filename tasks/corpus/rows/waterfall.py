"""Waterfall chart of the number of rows after each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.corpus.rows.rows import Step
from tasks.pages.page import PALETTE, plot_style
from tasks.pages.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT, ADDED, DROPPED = PALETTE[0], PALETTE[2], PALETTE[4]

# The axis begins at zero when fewer than this share of the rows remained at some step.
FULL_AXIS_BELOW = 0.8


def plot_waterfall(steps: Sequence[Step], first: str = "rows read") -> Figure:
    """Rows read, rows dropped or added by each step, and the rows left; steps without a change are omitted.

    The axis begins above zero when few rows were dropped, so that the changes stay visible.
    """
    import matplotlib.ticker
    from matplotlib.figure import Figure

    changing = [step for step in steps if step.rows_out != step.rows_in]
    read, final = steps[0].rows_in, steps[-1].rows_out
    highest = max(read, *(max(step.rows_in, step.rows_out) for step in steps))
    lowest = min(read, *(min(step.rows_in, step.rows_out) for step in steps))
    begin = 0 if lowest < FULL_AXIS_BELOW * highest or not changing else int(lowest - (highest - lowest) / 2)
    bars = [(first, begin, read, KEPT, f"{read:,}")]
    for step in changing:
        change = step.rows_out - step.rows_in
        low, high = sorted((step.rows_in, step.rows_out))
        text = f"−{-change:,} ({-change / read:.1%})" if change < 0 else f"+{change:,}"
        bars.append((step.name, low, high, DROPPED if change < 0 else ADDED, text))
    bars.append(("rows left", begin, final, KEPT, f"{final:,}"))
    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.6, 0.36 * len(bars) + 0.9))
        axes = figure.add_subplot()
        for place, (_, low, high, colour, text) in enumerate(bars):
            axes.barh(place, high - low, left=low, color=colour, height=0.66)
            axes.text(high + (highest - begin) * 0.01, place, plot_text(text), va="center", fontsize=9, color="#374151")
        for place, (_, low, high, colour, _) in enumerate(bars[:-1]):
            end = low if colour == DROPPED else high
            axes.plot([end, end], [place - 0.33, place + 1.33], color="#9ca3af", linewidth=0.8)
        axes.set_yticks(range(len(bars)), [plot_text(name) for name, *_ in bars])
        axes.invert_yaxis()
        axes.set_xlim(begin, begin + (highest - begin) * 1.22 or 1)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel(plot_text("rows" if not begin else f"rows; the axis begins at {begin:,}"))
        axes.grid(axis="y", visible=False)
    return figure
