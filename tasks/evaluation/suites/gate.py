"""What the gate reads in the results of suites that guard: non-inferiority, and failing closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.evaluation.wording import describe_margin

if TYPE_CHECKING:
    from tasks.evaluation.comparison import Comparison
    from tasks.evaluation.suites.scoring import SuiteBoard, SuiteResult


@dataclass(frozen=True)
class GuardJudgement:
    """What a suite that guards says.

    Attributes:
        key: The suite.
        reason: A sentence without its point.
        comparison: The difference that must not be a worsening beyond the margin; None where something failed.
        margin: Worsening to rule out.
    """

    key: str
    reason: str
    comparison: Comparison | None
    margin: float


def judge_guards(board: SuiteBoard, opponent: str) -> list[GuardJudgement]:
    """What each suite with the role ``guard`` says, in the order of the params.

    Args:
        board: Results of the suites.
        opponent: The model that the candidate must not be worse than.
    """
    return [_judge(key, result, opponent) for key, result in board.results.items() if result.suite.role == "guard"]


def _judge(key: str, result: SuiteResult, opponent: str) -> GuardJudgement:
    margin = result.suite.margin or 0.0
    if result.failure:
        return GuardJudgement(key, f"{key} guards, and failed: {result.failure}", None, margin)
    if result.failed:
        first = next(iter(result.failed.values()))
        count = f"{len(result.failed):,} of {result.questions:,} questions could not be scored"
        return GuardJudgement(key, f"{key} guards, and {count} (the first: {first})", None, margin)
    name, measure = next(iter(result.suite.measures.items()))
    one = result.comparisons.get(f"candidate_vs_{opponent}", {}).get(name)
    title = f"{key}, {measure.title}"
    if one is None:
        return GuardJudgement(key, f"{title} guards, and could not be compared with the {opponent}", None, margin)
    return GuardJudgement(key, describe_margin(title, one, margin), one, margin)
