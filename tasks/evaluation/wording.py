"""Sentences about scores and differences, the same on the page and in the reasons of the verdict."""

from __future__ import annotations

import math

from tasks.evaluation.comparison import Comparison
from tasks.pages.text import show_score


def signed(value: float) -> str:
    """A difference with its sign, three significant digits; no sign on a zero, a dash for what is not a number."""
    if not math.isfinite(value):
        return "–"
    shown = show_score(value)
    return f"+{shown}" if value > 0 and shown != "0" else shown


def show_p(value: float) -> str:
    """A p value in two digits; one too small for its test to tell apart from 0 as a bound."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def describe_change(title: str, comparison: Comparison) -> str:
    """What became of a metric: both scores, the difference and its interval.

    Args:
        title: Title of the metric.
        comparison: Candidate against opponent.

    Returns:
        For example "loss improved from 4.64 to 0.0133 (-4.63 [-4.70, -4.55])".
    """
    verb = {"better": "improved", "worse": "worsened", "undecided": "went"}[comparison.result]
    return f"{inside_sentence(title)} {verb} {describe_numbers(comparison)}"


def describe_margin(title: str, comparison: Comparison, margin: float) -> str:
    """Whether a metric may have worsened by more than its margin, from what it was to what it is.

    Args:
        title: Title of the metric.
        comparison: Candidate against opponent.
        margin: Worsening that is tolerated, in the metric's own unit.
    """
    change, limit = describe_change(title, comparison), f"its margin of {margin:g}"
    if comparison.stays_within(margin):
        if comparison.result == "better":
            return change
        if comparison.result == "worse":
            return f"{change}, by no more than {limit}"
        return f"{change}; a worsening by more than {limit} is ruled out"
    certain = comparison.low if not comparison.higher_is_better else -comparison.high
    if comparison.result == "worse":
        return f"{change}, {'' if certain > margin else 'possibly '}by more than {limit}"
    return f"{change}; a worsening by more than {limit} is not ruled out"


def describe_numbers(comparison: Comparison) -> str:
    """Both scores, the difference and its interval: "from 4.64 to 0.0133 (-4.63 [-4.70, -4.55])"."""
    return (
        f"from {show_score(comparison.mean_b)} to {show_score(comparison.mean_a)} ({signed(comparison.difference)} "
        f"[{signed(comparison.low)}, {signed(comparison.high)}])"
    )


def inside_sentence(title: str) -> str:
    """A metric's title as it stands inside a sentence; abbreviations keep their capitals."""
    return title if title.split("-")[0].isupper() else title[0].lower() + title[1:]
