"""Promote the candidate, or keep what is in use.

One rule, the same for the first model and the hundredth. The opponent is the champion, or the base
where there is no champion yet. The candidate is promoted when, on the same items,

1. enough items were scored on the primary metric (``minimum_items``),
2. it is better than the opponent on the primary metric, the interval of the difference clear of zero,
3. on every metric of ``must_not_fall`` the bad end of the interval stays within the margin, so that a
   loss larger than the margin is ruled out (non-inferiority).

Otherwise the champion stays: a model that is only not worse is no reason to change what runs. Where the
primary metric does not apply, the first metric of the section that does takes its place, and the reasons say so.
A metric of ``must_not_fall`` that does not apply is named in the reasons and does not count.

Example:
    Champion 0.86 and candidate 0.94 on intent accuracy, difference +0.08 [0.05, 0.11] on 400 items, and
    loss -0.12 [-0.15, -0.09] with margin 0.05: promote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tasks.contracts.errors import PipelineError
from tasks.contracts.record import Record
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.wording import describe

Decision = Literal["promote", "keep"]


class Verdict(Record):
    """The decision and what it rests on.

    Attributes:
        verdict: ``promote`` or ``keep``.
        reasons: One sentence each; the deciding ones first.
        primary: The metric that had to be won.
        opponent: ``champion`` or ``base``.
        comparisons: ``candidate_vs_base``, ``candidate_vs_champion`` to metric to comparison.
        champion: Release hash of the champion, if any.
        items: Items answered.
    """

    verdict: Decision
    reasons: list[str]
    primary: str
    opponent: str
    comparisons: dict[str, dict[str, dict[str, Any]]]
    champion: str | None
    items: int


def decide(
    board: Scoreboard,
    primary: str,
    minimum_items: int,
    must_not_fall: Mapping[str, float],
    champion: str | None,
) -> Verdict:
    """Judge the candidate.

    Args:
        board: Scores and comparisons.
        primary: Metric that must be won.
        minimum_items: Fewest scored items that prove anything.
        must_not_fall: Metric to margin.
        champion: Release hash of the champion, if any.

    Raises:
        PipelineError: No metric could be compared.
    """
    found = board.against_opponent
    if not found:
        said = "; ".join(f"{name}: {why}" for name, why in {**board.absent, **board.incomparable}.items())
        raise PipelineError(
            f"evaluation.metrics: none could be compared ({said}); expected at least one; add rouge_l or exact_match"
        )
    chosen, notes = choose_primary(board, primary)
    passed, proof = _beats(board, chosen, minimum_items)
    held, fallen, unchecked = _hold(board, must_not_fall, chosen)
    promote = passed and not fallen
    reasons = [proof, *fallen, *held] if passed else [proof, *fallen]
    return Verdict(
        verdict="promote" if promote else "keep",
        reasons=[*reasons, *notes, *unchecked],
        primary=chosen,
        opponent=board.opponent,
        comparisons={
            pair: {metric: one.model_dump() for metric, one in by_metric.items()}
            for pair, by_metric in board.comparisons.items()
        },
        champion=champion,
        items=len(board.items),
    )


def choose_primary(board: Scoreboard, wanted: str) -> tuple[str, list[str]]:
    """The primary metric, and a sentence where another had to take its place."""
    found = board.against_opponent
    if wanted in found:
        return wanted, []
    chosen = next(name for name in board.metrics if name in found)
    why = board.absent.get(wanted) or board.incomparable.get(wanted)
    return chosen, [f"{wanted} does not apply ({why}), so {chosen} decides"]


def _beats(board: Scoreboard, primary: str, minimum_items: int) -> tuple[bool, str]:
    one = board.against_opponent[primary]
    said = describe(board.metrics[primary].title, one)
    if one.items < minimum_items:
        return False, (
            f"too few items to judge: {one.items:,} scored on {primary}, at least {minimum_items:,} needed; "
            "add held-out rows or lower evaluation.gate.minimum_items"
        )
    if one.result == "better":
        return True, f"better than the {board.opponent}: {said}"
    if one.result == "worse":
        return False, f"worse than the {board.opponent}: {said}"
    return False, (
        f"not proven better than the {board.opponent}: {said}; "
        f"a difference of {one.detectable:.3g} could have been seen"
    )


def _hold(
    board: Scoreboard, must_not_fall: Mapping[str, float], primary: str
) -> tuple[list[str], list[str], list[str]]:
    held: list[str] = []
    fallen: list[str] = []
    unchecked: list[str] = []
    for name, margin in must_not_fall.items():
        one = board.against_opponent.get(name)
        if one is None:
            why = board.absent.get(name) or board.incomparable.get(name)
            unchecked.append(f"{name} is not checked: {why}")
            continue
        said = f"{describe(board.metrics[name].title, one)}, margin {margin:.4g}"
        # Asked this way round, what is not a number has fallen.
        if not one.worst <= margin:
            fallen.append(f"{name} may have fallen by more than the margin: {said}")
        elif name != primary:  # which has said its own sentence
            held.append(f"{board.metrics[name].title} does not fall: {said}")
    return held, fallen, unchecked
