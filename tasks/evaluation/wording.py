"""Sentences about scores and differences, the same on the page and in the reasons of the verdict."""

from __future__ import annotations

import math

from tasks.evaluation.comparison import Comparison


def signed(value: float) -> str:
    """A difference with its sign, three significant digits; no sign on a zero, a dash for what is not a number."""
    if not math.isfinite(value):
        return "–"
    return f"{value:+.3g}" if value else "0"


def describe_change(title: str, comparison: Comparison) -> str:
    """What became of a metric: both scores, the difference and its interval.

    Args:
        title: Title of the metric.
        comparison: Candidate against opponent.

    Returns:
        For example "loss improved from 4.64 to 0.0133 (-4.63 [-4.70, -4.55])".
    """
    verb = {"better": "improved", "worse": "worsened", "undecided": "changed"}[comparison.result]
    return f"{inside_sentence(title)} {verb} {describe_numbers(comparison)}"


def describe_numbers(comparison: Comparison) -> str:
    """Both scores, the difference and its interval: "from 4.64 to 0.0133 (-4.63 [-4.70, -4.55])"."""
    return (
        f"from {comparison.mean_b:.3g} to {comparison.mean_a:.3g} ({signed(comparison.difference)} "
        f"[{signed(comparison.low)}, {signed(comparison.high)}])"
    )


def inside_sentence(title: str) -> str:
    """A metric's title as it stands inside a sentence; abbreviations keep their capitals."""
    return title if title.isupper() else title[0].lower() + title[1:]
