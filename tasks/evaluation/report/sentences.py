"""The verdict in plain English, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tasks.evaluation.comparison import Comparison
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.verdict import PromotionVerdict
from tasks.evaluation.wording import inside_sentence
from tasks.pages.text import show_score


def summarise(board: Scoreboard, verdict: PromotionVerdict) -> str:
    """What was decided and why, in one sentence that needs no statistics.

    Example:
        "Promote it: on the same 400 held-out items the candidate's intent accuracy is 0.940 and the champion's 0.860;
        with 95% confidence it is better by 0.0500 to 0.110, and nothing that must not worsen did."
    """
    one = board.against_opponent[verdict.primary]
    title = inside_sentence(board.metrics[verdict.primary].title)
    scores = (
        f"on the same {len(board.items):,} held-out items the candidate's {title} is {show_score(one.mean_a)} and the "
        f"{board.opponent}'s {show_score(one.mean_b)}"
    )
    gain = _describe_gain(one, board.confidence)
    stays = f"the {board.opponent} stays in use" if board.opponent == "champion" else "it should not be used"
    if verdict.verdict == "promote":
        return f"Promote it: {scores}; {gain}, and nothing that must not worsen did."
    if verdict.verdict == "undecided":
        more = f"; about {verdict.items_needed:,} items would settle it" if verdict.items_needed else ""
        return f"Undecided, so {stays}: {scores}; {gain}{more}."
    but = ", but another of its rules keeps it out" if one.result == "better" else ""
    return f"Keep the {board.opponent}: {scores}; {gain}{but}."


def _describe_gain(one: Comparison, confidence: float) -> str:
    ends = sorted((abs(one.low), abs(one.high)))
    sure = f"with {confidence:.0%} confidence it is"
    if one.result != "undecided":
        return f"{sure} {one.result} by {show_score(ends[0])} to {show_score(ends[1])}"
    worse, better = (one.low, one.high) if one.higher_is_better else (one.high, one.low)
    if not (math.isfinite(worse) and math.isfinite(better)):
        return "how sure that is cannot be said"
    return f"{sure} anything from {show_score(abs(worse))} worse to {show_score(abs(better))} better"


def list_turning_points(
    board: Scoreboard, verdict: PromotionVerdict, minimum_items: int, margins: Mapping[str, float]
) -> list[str]:
    """What would have to be otherwise for another verdict, a sentence each.

    Args:
        board: Scores and comparisons.
        verdict: The decision.
        minimum_items: Fewest scored items that prove something.
        margins: Metric to the worsening that is tolerated.
    """
    one = board.against_opponent[verdict.primary]
    title = inside_sentence(board.metrics[verdict.primary].title)
    compared = {name: board.against_opponent[name] for name in margins if name in board.against_opponent}
    points: list[str] = []
    if verdict.verdict == "promote":
        points.append(_describe_lead(board, verdict.primary, one))
        for name, other in compared.items():
            room = margins[name] - other.possible_worsening
            worst = other.possible_worsening
            state = f"may be {show_score(worst)} worse at most" if worst > 0 else "is proven to be better"
            points.append(
                f"{board.metrics[name].title} {show_score(room)} worse than it came out: it {state}, and "
                f"{margins[name]:g} worse is allowed."
            )
        return points
    if one.items < minimum_items:
        points.append(f"At least {minimum_items:,} scored items; there are {one.items:,}.")
    if one.result != "better":
        points.append(
            f"A true gain in {title} of {show_score(one.detectable)} or more: these items prove one of that size with "
            f"{board.power:.0%} probability; what was found is {show_score(abs(one.difference))} "
            f"{'more' if (one.difference > 0) == one.higher_is_better else 'less'}."
        )
    for name, other in compared.items():
        if not other.stays_within(margins[name]):
            points.append(
                f"{board.metrics[name].title} that is proven to be no more than {margins[name]:g} worse; it may be "
                f"{show_score(other.possible_worsening)} worse."
            )
    if verdict.items_needed:
        points.append(
            f"About {verdict.items_needed:,} held-out items instead of {len(board.items):,}, if what was found is "
            "true: more rows in the test split, and a higher `evaluation.items`."
        )
    points.append("A person with a reason: `heptune promote --force --reason ...`.")
    return points


def _describe_lead(board: Scoreboard, name: str, one: Comparison) -> str:
    """How far the primary metric is from not being proven."""
    lead = one.low if one.higher_is_better else -one.high
    scores = board.scores["candidate", name]
    counted = scores.values[scores.weights > 0]
    title = inside_sentence(board.metrics[name].title)
    if scores.tally is None and set(counted.tolist()) <= {0.0, 1.0}:
        answers = max(1, math.ceil(lead * one.items))
        return (
            f"About {answers:,} of the candidate's right answers on {one.items:,} items being wrong: then the gain in "
            f"{title} would not be proven."
        )
    return f"A candidate whose {title} is {show_score(lead)} worse than it is: then the gain would not be proven."
