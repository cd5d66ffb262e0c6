"""The metrics that the evaluation of a reward model adds to those of the params."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.evaluation.metrics.metric import Evidence, Metric
from tasks.evaluation.reward_metrics.reward_accuracy import RewardAccuracy
from tasks.evaluation.reward_metrics.reward_calibration import RewardCalibration
from tasks.evaluation.reward_metrics.step_accuracy import StepAccuracy


def add_reward_metrics(metrics: Sequence[Metric], evidence: Evidence) -> tuple[Metric, ...]:
    """The metrics with those of rewards that are not among them; the same where no rewards were asked for."""
    if not evidence.rewards:
        return tuple(metrics)
    own: tuple[Metric, ...] = (RewardAccuracy(), StepAccuracy(), RewardCalibration())
    named = {metric.name for metric in metrics}
    added = [one for one in own if one.name not in named and one.why_not_applicable(evidence) is None]
    return (*metrics, *added)
