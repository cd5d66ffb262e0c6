"""Promote the candidate, keep what is in use, or say that the items do not decide.

One rule, the same for the first model and the hundredth. The opponent is the champion, or the base
where there is no champion yet. The candidate is promoted when, on the same items,

1. enough items were scored on the primary metric (``minimum_items``),
2. it is better than the opponent on the primary metric: the interval of the difference excludes zero. With several
   primary metrics one is enough, at levels by Holm's method (Scandinavian Journal of Statistics 1979): of m metrics
   the one with the smallest p has to be clear at alpha / m, the next at alpha / (m - 1), to the first that is not,
3. on every metric of ``must_not_worsen`` the unfavourable end of the interval stays within the margin, which
   rules out a larger worsening (non-inferiority),
4. so does every suite that guards, on all of its questions.

It is kept out where it is worse, or not even better in the mean, or certainly worse by more than a margin. What lies
between is undecided, with the number of items that would settle it: what is in use stays, more held-out rows may show
the candidate to be better, and a person may promote it with a reason. Where a primary metric does not apply, the others
decide, or the first metric that does; the reasons say so. A metric of ``must_not_worsen`` that does not apply is named
in the reasons and is not checked. One of either that fails (it raises, or gives what is not a number) keeps the
candidate out, and so does a suite that guards and could not be asked or scored.

All intervals have the level of this decision on these items, which is higher where they decided before; a set that is
worn out decides nothing (`tasks.evaluation.decisions.reuse`).

Example:
    Champion 0.86 and candidate 0.94 on intent accuracy, difference +0.08 [0.05, 0.11] on 400 items, and
    loss -0.12 [-0.15, -0.09] with margin 0.05: promote. With +0.02 [-0.01, 0.05], detectable 0.04: undecided, as four
    times the items, 1,600, would find a true difference of 0.02 with the stated power.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.record import Record
from tasks.evaluation.comparison import Comparison
from tasks.evaluation.decisions.reuse import HeldOutUse
from tasks.evaluation.metrics.metric import Evidence, Metric, why_not_applicable
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.suites.gate import judge_guards
from tasks.evaluation.suites.scoring import NO_SUITES, SuiteBoard
from tasks.evaluation.wording import describe_change, describe_margin, signed
from tasks.pages.text import show_score

Decision = Literal["promote", "keep", "undecided"]


class PromotionVerdict(Record):
    """The decision and its grounds.

    Attributes:
        verdict: ``promote``, ``keep`` or ``undecided``.
        reasons: One sentence each, the decisive ones first.
        primary: The metric on which the candidate is better, or had to be.
        opponent: ``champion`` or ``base``.
        comparisons: ``candidate_vs_base``, ``candidate_vs_champion`` to metric to comparison.
        champion: Release hash of the champion, if any.
        items: Items answered.
        items_needed: Items that would settle an undecided verdict, about; None where it is settled.
        intent_ceiling: Accuracy of the intent classifier on the reference answers; None where it was not used.
        intent_abstained: Per model the answers without an intent that it recognises.
        held_out: What the decision takes of the held-out set; None where decisions are not counted.
    """

    verdict: Decision
    reasons: list[str]
    primary: str
    opponent: str
    comparisons: dict[str, dict[str, dict[str, Any]]]
    champion: str | None
    items: int
    items_needed: int | None = None
    intent_ceiling: float | None = None
    intent_abstained: dict[str, int] = Field(default_factory=dict)
    held_out: HeldOutUse | None = None


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
    reasons = {metric.name: why_not_applicable(metric, evidence) for metric in metrics}
    if not same_tokens:
        reasons |= {m.name: "base and champion tokenize text differently" for m in metrics if m.per_token}
    if all(reasons.values()):
        problems = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        raise PipelineError(
            f"evaluation.metrics: none can be compared ({problems}); expected at least one; add "
            + (
                "reciprocal_rank, and make it gate.primary"
                if evidence.vectors
                else "pairs or marked steps to the held-out rows"
                if evidence.rewards
                else "exact_match"
            )
        )
    return {"metrics": float(sum(why is None for why in reasons.values()))}


@dataclass(frozen=True)
class _Judgement:
    """What one rule says.

    Attributes:
        decision: What follows from it alone.
        reason: Why, as a sentence without its point.
        items: Items that would settle it, where it is undecided.
    """

    decision: Decision
    reason: str
    items: int = 0


def decide(
    board: Scoreboard,
    primary: str | Sequence[str],
    minimum_items: int,
    must_not_worsen: Mapping[str, float],
    champion: str | None,
    held_out: HeldOutUse | None = None,
    suites: SuiteBoard = NO_SUITES,
) -> PromotionVerdict:
    """Decide whether the candidate replaces the opponent.

    Args:
        board: Scores and comparisons.
        primary: Metric, or metrics, on one of which the candidate must be better.
        minimum_items: Minimum number of scored items.
        must_not_worsen: Metric to margin, in the metric's own unit.
        champion: Release hash of the champion, if any.
        held_out: How worn the items are; None: not counted.
        suites: Results of the suites, of which those that guard are judged too.

    Raises:
        PipelineError: No metric could be compared, or the champion has not answered.
    """
    if champion is not None and "champion" not in board.outcomes:
        raise PipelineError(
            f"evaluation: release {champion[:12]} is champion and has not answered the items, so nothing shows that "
            "the candidate is better; expected answers of it; evaluate again"
        )
    if not board.against_opponent:
        problems = "; ".join(f"{name}: {why}" for name, why in {**board.not_applicable, **board.incomparable}.items())
        raise PipelineError(
            f"evaluation.metrics: none could be compared ({problems}); expected at least one; "
            "add rouge_l or exact_match"
        )
    primaries = [primary] if isinstance(primary, str) else list(primary)
    wanted, notes = choose_primary(board, primaries)
    chosen, first = _judge_primary(board, wanted, minimum_items)
    margins, unchecked = _judge_margins(board, must_not_worsen)
    broken = [
        _Judgement("keep", f"{name} could not be scored, and nothing is promoted without it: {board.failed[name]}")
        for name in dict.fromkeys([*primaries, *must_not_worsen])
        if name in board.failed
    ]
    worn = [_Judgement("undecided", held_out.describe())] if held_out and held_out.worn_out else []
    margins |= _judge_suites(board, suites)
    judgements = [*broken, *worn, first, *margins.values()]
    decision: Decision = "promote"
    if any(one.decision == "keep" for one in judgements):
        decision = "keep"
    elif any(one.decision == "undecided" for one in judgements):
        decision = "undecided"
    beyond = [one.reason for one in margins.values() if one.decision != "promote"]
    # The primary metric already has a sentence.
    within = [one.reason for name, one in margins.items() if one.decision == "promote" and name != chosen]
    needed = max(one.items for one in judgements) or None if decision == "undecided" else None
    return PromotionVerdict(
        verdict=decision,
        reasons=[
            *(one.reason for one in [*broken, *worn]),
            first.reason,
            *beyond,
            *(within if first.decision == "promote" else []),
            *notes,
            *unchecked,
            *describe_repeats(board, chosen),
            *describe_unpaired(board, [chosen, *margins]),
            *([held_out.describe()] if held_out and held_out.describe() and not worn else []),
        ],
        primary=chosen,
        opponent=board.opponent,
        comparisons={
            pair: {metric: one.model_dump() for metric, one in by_metric.items()}
            for pair, by_metric in board.comparisons.items()
        },
        champion=champion,
        items=len(board.items),
        items_needed=needed,
        intent_ceiling=board.ceiling,
        intent_abstained={str(model): count for model, count in board.abstained.items()},
        held_out=held_out,
    )


def choose_primary(board: Scoreboard, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """The primary metrics that apply, and a note where others replace the configured ones."""
    comparisons = board.against_opponent
    found = [name for name in wanted if name in comparisons] or [
        next(name for name in board.metrics if name in comparisons)
    ]
    return found, [
        f"{name} does not apply ({board.not_applicable.get(name) or board.incomparable.get(name)}), so "
        f"{' and '.join(found)} {'decides' if len(found) == 1 else 'decide'}"
        for name in wanted
        if name not in comparisons and name not in board.failed
    ]


def describe_repeats(board: Scoreboard, chosen: str) -> list[str]:
    """What stands behind the answers of the candidate where more than one model was trained."""
    found = []
    if board.folds:
        widening = board.widening.get(chosen, 1.0)
        found.append(
            f"training rows are items too, answered by models of {board.folds} folds that had not seen them: intervals "
            f"are {widening:.2f} times as wide as those of independent items"
        )
    if seeds := board.against_opponent[chosen].seeds:
        found.append(
            f"over {len(seeds.differences)} training seeds the difference of {chosen} was "
            f"{', '.join(map(signed, seeds.differences))} (standard deviation {show_score(seeds.deviation)}); of the "
            f"items alone its interval is [{signed(seeds.low)}, {signed(seeds.high)}]"
        )
    return found


def describe_unpaired(board: Scoreboard, names: Sequence[str]) -> list[str]:
    """Where items are left out because not all models are scored on them."""
    return [
        f"{name}: {board.unpaired[name]:,} items are left out, as they are scored for some models only"
        for name in dict.fromkeys(names)
        if name in board.unpaired
    ]


def _judge_primary(board: Scoreboard, wanted: Sequence[str], minimum_items: int) -> tuple[str, _Judgement]:
    """The metric that decides, and what it says."""
    enough = [name for name in wanted if board.against_opponent[name].items >= minimum_items]
    if not enough:
        one = board.against_opponent[wanted[0]]
        return wanted[0], _Judgement(
            "undecided",
            f"too few items to judge: {one.items:,} scored on {wanted[0]}, at least {minimum_items:,} needed; "
            "add held-out rows or lower evaluation.gate.minimum_items",
            minimum_items,
        )
    better = find_better(board, enough)
    chosen = better[0] if better else enough[0]
    one = board.against_opponent[chosen]
    change = f"{describe_change(board.metrics[chosen].title, one)} on {one.items:,} items"
    among = f", one of {len(enough)} primary metrics, by Holm's method" if len(enough) > 1 else ""
    if better:
        return chosen, _Judgement("promote", f"better than the {board.opponent}: {change}{among}")
    if one.result == "worse":
        return chosen, _Judgement("keep", f"worse than the {board.opponent}: {change}{among}")
    sentence = (
        f"not proven better than the {board.opponent}: {change}, enough to detect a difference of "
        f"{show_score(one.detectable)}{among}"
    )
    gain = one.difference if one.higher_is_better else -one.difference
    needed = count_needed(one, gain)
    if needed is None:
        return chosen, _Judgement("keep", sentence)
    return chosen, _Judgement("undecided", f"{sentence}; about {needed:,} items would settle it", needed)


def find_better(board: Scoreboard, names: Sequence[str]) -> list[str]:
    """The metrics on which the candidate is better, the clearest first, by Holm's method; one alone by its interval."""
    if len(names) == 1:
        return [names[0]] if board.against_opponent[names[0]].result == "better" else []
    alpha = 1 - board.confidence
    found = sorted((board.find_p(name), place, name) for place, name in enumerate(names))
    better: list[str] = []
    for tried, (p, _, name) in enumerate(found):
        one = board.against_opponent[name]
        if p > alpha / (len(names) - tried) or one.result != "better":
            break
        better.append(name)
    return better


def count_needed(one: Comparison, distance: float) -> int | None:
    """Items on which a true difference of the found size would be clear with the stated power, to two digits.

    Args:
        one: The comparison.
        distance: From the found difference to what is to be ruled out; None comes out where it is not positive.
    """
    if not (distance > 0 and math.isfinite(one.detectable)):
        return None
    exact = max(one.items * (one.detectable / distance) ** 2, one.items + 1)
    size = int(10 ** max(0, math.floor(math.log10(exact)) - 1))
    return math.ceil(exact / size) * size


def _judge_margins(board: Scoreboard, must_not_worsen: Mapping[str, float]) -> tuple[dict[str, _Judgement], list[str]]:
    """What each metric that must not worsen says, and those that could not be checked."""
    judged: dict[str, _Judgement] = {}
    unchecked: list[str] = []
    for name, margin in must_not_worsen.items():
        one = board.against_opponent.get(name)
        if name in board.failed:
            continue
        if one is None:
            why = board.not_applicable.get(name) or board.incomparable.get(name)
            unchecked.append(f"{name} is not checked: {why}")
            continue
        sentence = describe_margin(board.metrics[name].title, one, margin)
        judged[name] = _judge_margin(one, margin, sentence)
    return judged, unchecked


def _judge_margin(one: Comparison, margin: float, sentence: str) -> _Judgement:
    """What a difference says that may be no worsening by more than a margin."""
    worsening = -one.difference if one.higher_is_better else one.difference
    if one.stays_within(margin):
        return _Judgement("promote", sentence)
    if (needed := count_needed(one, margin - worsening)) is None:
        return _Judgement("keep", sentence)
    return _Judgement("undecided", f"{sentence}; about {needed:,} items would settle it", needed)


def _judge_suites(board: Scoreboard, suites: SuiteBoard) -> dict[str, _Judgement]:
    """What the suites that guard say; one that failed proves nothing, so nothing is promoted without it."""
    return {
        f"suite {one.key}": _Judgement("keep", one.reason)
        if one.comparison is None
        else _judge_margin(one.comparison, one.margin, one.reason)
        for one in judge_guards(suites, board.opponent)
    }
