"""The page that holds a judge against people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts.manifest import write_json
from tasks.evaluation.judges.people import PeopleAgreement
from tasks.pages.page import PALETTE, Page, plot_style
from tasks.pages.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_agreement(
    found: PeopleAgreement, file: Path, notes: Sequence[str], page_path: Path, figures_path: Path
) -> None:
    """Write the page and, as JSON, its figures.

    Args:
        found: A judge held against people.
        file: The pairs.
        notes: What else is to be known, a sentence each.
        page_path: The page to write.
        figures_path: File of the figures.
    """
    write_json(figures_path, {"judge": found.judge, **found.figures})
    page = Page("Judge and people", describe_agreement(found), stage=page_path.parent.name)
    shares = {
        "right, both orders together": found.accuracy,
        "right, first order alone": found.forward,
        "right, second order alone": found.backward,
        "the same verdict in both orders": found.consistency,
        "share of the answer shown first (50% without a bias)": found.position,
        "the longer answer wins, by the judge": found.longer,
        "the longer answer wins, by people": found.people_longer,
    }
    page.table(
        "Agreement and biases",
        ["measure", "share", "low", "high", "pairs"],
        [
            [name, f"{share.value:.1%}", f"{share.low:.1%}", f"{share.high:.1%}", share.pairs]
            for name, share in shares.items()
            if share.pairs
        ],
        "With 95% intervals. A tie is half right. "
        + ("" if found.kappa is None else f"Cohen's kappa of judge and people on decided pairs: {found.kappa:.2f}."),
    )
    if found.reliability:
        page.figure(
            plot_reliability(found),
            "Reliability",
            "How often the judge is right by how sure it is; on the dashed line a judge that knows how far it may be "
            f"believed. Expected calibration error {found.calibration_error:.3f}.",
        )
    page.listing([f"Pairs of {file}; selected by a hash of their content.", *notes], "About these numbers")
    page.link(figures_path.name, f"All figures as JSON ({figures_path.name})")
    page.write(page_path)


def describe_agreement(found: PeopleAgreement) -> str:
    """The result in a sentence or two."""
    if not found.accuracy.pairs:
        return f"{found.judge} gave no verdict about any of {found.pairs:,} pairs."
    text = f"{found.judge} agrees with people on {found.accuracy.describe()} pairs; a coin does on half of them."
    favours = "no place is shown to be favoured"
    if found.position.low > 0.5:
        favours = "it favours the answer shown first"
    elif found.position.high < 0.5:
        favours = "it favours the answer shown second"
    unjudged = f" {found.unjudged:,} pairs have no verdict." if found.unjudged else ""
    return (
        f"{text} The verdict is the same in both orders on {found.consistency.value:.0%}; {favours} "
        f"({found.position.value:.0%} of the shares are the first one's).{unjudged}"
    )


def plot_reliability(found: PeopleAgreement) -> Figure:
    """How often the judge is right, with intervals, by how sure it is."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    bins = found.reliability
    with rc_context(plot_style()):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0.5, 1], [0.5, 1], "--", color="#9ca3af", linewidth=1)
        right = [one.right.value for one in bins]
        ends = [
            [value - one.right.low for value, one in zip(right, bins, strict=True)],
            [one.right.high - value for value, one in zip(right, bins, strict=True)],
        ]
        axes.errorbar([one.confidence for one in bins], right, yerr=ends, fmt="o", color=PALETTE[0], capsize=3)
        for one in bins:
            axes.annotate(
                plot_text(f" {one.right.pairs}"), (one.confidence, one.right.value), fontsize=8, color="#374151"
            )
        axes.set_xlim(0.48, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("mean confidence of the judge (with the number of pairs)")
        axes.set_ylabel("share right")
    return figure
