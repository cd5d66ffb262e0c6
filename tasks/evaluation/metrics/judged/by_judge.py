"""What a judge says of the answers, as a metric: its win rate or its score (`tasks.evaluation.judges`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tasks.evaluation.judges.judge import NoVerdict
from tasks.evaluation.judges.pairwise import PairwiseJudge
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.judges import AnyJudge
    from tasks.evaluation.metrics.metric import Evidence, Metric, Scores
    from tasks.evaluation.outcomes import Outcome


class _JudgeMetric:
    """What both have in common.

    Args:
        judge: The judge, whose name is the metric's.
    """

    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def __init__(self, judge: AnyJudge) -> None:
        self._judge = judge

    @property
    def name(self) -> str:
        return self._judge.name

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None if self.name in evidence.judged else "the judge was not asked"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        """The scores of a model.

        Raises:
            NoVerdict: The judge may decide nothing: it agrees too little with people, or gave too few verdicts.
        """
        from tasks.evaluation.metrics.metric import Scores

        judged = evidence.judged[self.name]
        if judged.unfit:
            raise NoVerdict(judged.unfit)
        return Scores(judged.values[outcome.model], judged.weights)


class WinRate(_JudgeMetric):
    """Win rate against the opponent, ties half; the opponent's own is 0.5."""

    title: ClassVar[str] = "Win rate (judge)"


class JudgeScore(_JudgeMetric):
    """Mean of the judge's scores, 0 to 1."""

    title: ClassVar[str] = "Score (judge)"


def as_metric(judge: AnyJudge) -> Metric:
    """The metric of a judge."""
    return WinRate(judge) if isinstance(judge, PairwiseJudge) else JudgeScore(judge)
