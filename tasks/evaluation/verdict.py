"""Promote the candidate, or keep what is in use.

One rule, the same for the first model and the hundredth. The opponent is the champion, or the base
where there is no champion yet. The candidate is promoted when, on the same items,

1. enough items were scored on the primary metric (``minimum_items``),
2. it is better than the opponent on the primary metric: the interval of the difference excludes zero,
3. on every metric of ``must_not_worsen`` the unfavourable end of the interval stays within the margin, which
   rules out a larger worsening (non-inferiority).

Otherwise the champion stays: a model that is merely not worse is no reason to change what is in use. Where
the primary metric does not apply, the first metric that does replaces it, and the reasons say so. A metric of
``must_not_worsen`` that does not apply is named in the reasons and is not checked.

Example:
    Champion 0.86 and candidate 0.94 on intent accuracy, difference +0.08 [0.05, 0.11] on 400 items, and
    loss -0.12 [-0.15, -0.09] with margin 0.05: promote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.record import Record
from tasks.evaluation.metrics.metric import Evidence, Metric
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.wording import describe_change, describe_margin
from tasks.pages.text import show_score

Decision = Literal["promote", "keep"]


class PromotionVerdict(Record):
    """The decision and its grounds.

    Attributes:
        verdict: ``promote`` or ``keep``.
        reasons: One sentence each, the decisive ones first.
        primary: The metric on which the candidate had to be better.
        opponent: ``champion`` or ``base``.
        comparisons: ``candidate_vs_base``, ``candidate_vs_champion`` to metric to comparison.
        champion: Release hash of the champion, if any.
        items: Items answered.
        intent_ceiling: Accuracy of the intent classifier on the reference answers; None where it was not used.
        intent_abstained: Per model the answers without an intent that it recognises.
    """

    verdict: Decision
    reasons: list[str]
    primary: str
    opponent: str
    comparisons: dict[str, dict[str, dict[str, Any]]]
    champion: str | None
    items: int
    intent_ceiling: float | None = None
    intent_abstained: dict[str, int] = Field(default_factory=dict)


def check_metrics(evidence: Evidence, metrics: Sequence[Metric], same_tokens: bool) -> dict[str, float]:
    """Refuse items on which no metric can compare the candidate, before any model answers them.

    Args:
        evidence: Items and intent classifier.
        metrics: The metrics of the params.
        same_tokens: Whether the losses of base and champion can be compared.

    Returns:
        The number of metrics that can be compared.

    Raises:
        PipelineError: No metric can be compared.
    """
    reasons = {metric.name: metric.why_not_applicable(evidence) for metric in metrics}
    if not same_tokens:
        reasons |= {m.name: "base and champion tokenize text differently" for m in metrics if m.per_token}
    if all(reasons.values()):
        problems = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        raise PipelineError(
            f"evaluation.metrics: none can be compared ({problems}); expected at least one; add exact_match"
        )
    return {"metrics": float(sum(why is None for why in reasons.values()))}


def decide(
    board: Scoreboard,
    primary: str,
    minimum_items: int,
    must_not_worsen: Mapping[str, float],
    champion: str | None,
) -> PromotionVerdict:
    """Decide whether the candidate replaces the opponent.

    Args:
        board: Scores and comparisons.
        primary: Metric on which the candidate must be better.
        minimum_items: Minimum number of scored items.
        must_not_worsen: Metric to margin, in the metric's own unit.
        champion: Release hash of the champion, if any.

    Raises:
        PipelineError: No metric could be compared.
    """
    if not board.against_opponent:
        problems = "; ".join(f"{name}: {why}" for name, why in {**board.not_applicable, **board.incomparable}.items())
        raise PipelineError(
            f"evaluation.metrics: none could be compared ({problems}); expected at least one; "
            "add rouge_l or exact_match"
        )
    chosen, notes = choose_primary(board, primary)
    better, reason = _judge_primary(board, chosen, minimum_items)
    within, beyond, unchecked = _check_margins(board, must_not_worsen, chosen)
    promote = better and not beyond
    reasons = [reason, *beyond, *within] if better else [reason, *beyond]
    return PromotionVerdict(
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
        intent_ceiling=board.ceiling,
        intent_abstained={str(model): count for model, count in board.abstained.items()},
    )


def choose_primary(board: Scoreboard, wanted: str) -> tuple[str, list[str]]:
    """The primary metric, and a note where another metric replaces the configured one."""
    comparisons = board.against_opponent
    if wanted in comparisons:
        return wanted, []
    chosen = next(name for name in board.metrics if name in comparisons)
    why = board.not_applicable.get(wanted) or board.incomparable.get(wanted)
    return chosen, [f"{wanted} does not apply ({why}), so {chosen} decides"]


def _judge_primary(board: Scoreboard, primary: str, minimum_items: int) -> tuple[bool, str]:
    one = board.against_opponent[primary]
    change = f"{describe_change(board.metrics[primary].title, one)} on {one.items:,} items"
    if one.items < minimum_items:
        return False, (
            f"too few items to judge: {one.items:,} scored on {primary}, at least {minimum_items:,} needed; "
            "add held-out rows or lower evaluation.gate.minimum_items"
        )
    if one.result == "better":
        return True, f"better than the {board.opponent}: {change}"
    if one.result == "worse":
        return False, f"worse than the {board.opponent}: {change}"
    detectable = show_score(one.detectable)
    return (
        False,
        f"not proven better than the {board.opponent}: {change}, enough to detect a difference of {detectable}",
    )


def _check_margins(
    board: Scoreboard, must_not_worsen: Mapping[str, float], primary: str
) -> tuple[list[str], list[str], list[str]]:
    within: list[str] = []
    beyond: list[str] = []
    unchecked: list[str] = []
    for name, margin in must_not_worsen.items():
        one = board.against_opponent.get(name)
        if one is None:
            why = board.not_applicable.get(name) or board.incomparable.get(name)
            unchecked.append(f"{name} is not checked: {why}")
            continue
        sentence = describe_margin(board.metrics[name].title, one, margin)
        if not one.stays_within(margin):
            beyond.append(sentence)
        elif name != primary:  # the primary metric already has a sentence
            within.append(sentence)
    return within, beyond, unchecked
