"""Any number of models on the same items: scores, and differences to the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.evaluation.bootstrap import count_units, interval
from tasks.evaluation.comparison import Comparison, IntervalMethod, compare, mean, scale
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.metric import Evidence, Metric, Scores
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.probes.probe import ProbedMetric
from tasks.evaluation.scoring import Estimate, Key, resample


@dataclass(frozen=True)
class ModelRanking:
    """Models, the best on the first metric first.

    Attributes:
        items: The items that all of them answered.
        reference: The model that the others are compared with.
        models: All of them, in their order.
        metrics: Metrics that apply, by name.
        not_applicable: Metric name to why it does not apply.
        estimates: Score with its interval, by model and metric.
        comparisons: The model against the reference, by model and metric; without what cannot be compared.
        confidence: Confidence level of all intervals.
        scores: Of every item, by model and metric.
        outcomes: The answers, by model.
    """

    items: tuple[Item, ...] = field(repr=False)
    reference: ModelName
    models: tuple[ModelName, ...]
    metrics: dict[str, Metric] = field(repr=False)
    not_applicable: dict[str, str]
    estimates: dict[Key, Estimate]
    comparisons: dict[Key, Comparison]
    confidence: float
    scores: dict[Key, Scores] = field(repr=False)
    outcomes: dict[ModelName, Outcome] = field(repr=False)

    @property
    def figures(self) -> dict[str, float]:
        """``model.metric`` to score, and ``model.metric.difference`` with ``low`` and ``high`` to the reference."""
        figures = {"items": float(len(self.items))}
        figures |= {f"{model}.{metric}": one.value for (model, metric), one in self.estimates.items()}
        for (model, metric), one in self.comparisons.items():
            ends = {"difference": one.difference, "low": one.low, "high": one.high}
            figures |= {f"{model}.{metric}.{name}": value for name, value in ends.items()}
        return figures


def rank_models(
    evidence: Evidence,
    outcomes: Sequence[Outcome],
    metrics: Sequence[Metric],
    resamples: int,
    confidence: float,
    power: float,
    seed: int,
    interval_method: IntervalMethod = "expanded",
) -> ModelRanking:
    """Score all models on all metrics that apply, and compare each with the first.

    Args:
        evidence: Items and intent classifier.
        outcomes: Answers of the models, under names of their own; the first is the reference.
        metrics: Metrics, the first that applies being the one to rank by.
        resamples: Number of bootstrap resamples.
        confidence: Confidence level of all intervals.
        power: Power at which the smallest detectable differences are stated.
        seed: Seed of the resampling.
        interval_method: How the ends of the intervals of differences are found.
    """
    silent = [outcome.model for outcome in outcomes if not np.isfinite(outcome.losses).any()]
    reasons: dict[str, str | None] = {}
    for metric in metrics:
        unprobed = [one.model for one in outcomes if isinstance(metric, ProbedMetric) and _lacks(one, metric)]
        if unprobed:
            reasons[metric.name] = f"{' and '.join(unprobed)} was asked for nothing but answers"
        elif silent and metric.looks_at == "references":
            reasons[metric.name] = f"{' and '.join(silent)} gives no likelihoods"
        else:
            reasons[metric.name] = metric.why_not_applicable(evidence)
    applied = {metric.name: metric for metric in metrics if reasons[metric.name] is None}
    models = {outcome.model: outcome for outcome in outcomes}
    reference = outcomes[0].model
    scores = {
        (model, name): metric.score(evidence, outcome)
        for name, metric in applied.items()
        for model, outcome in models.items()
    }
    clusters = [item.cluster for item in evidence.items]
    replicates = resample(scores, clusters, resamples, seed)
    estimates, comparisons = {}, {}
    for (model, name), found in scores.items():
        metric = applied[name]
        ends = interval(scale(metric, replicates[model, name]), confidence, count_units(found.weights, clusters))
        estimates[model, name] = Estimate(mean(metric, found), *ends)
        same_tokens = np.array_equal(models[model].tokens, models[reference].tokens)
        if model == reference or (metric.per_token and not same_tokens):
            continue
        comparisons[model, name] = compare(
            metric,
            found,
            scores[reference, name],
            replicates[model, name],
            replicates[reference, name],
            clusters,
            confidence,
            power,
            interval_method,
        )
    order = list(models)
    if applied:
        first = next(iter(applied.values()))
        order.sort(key=lambda model: estimates[model, first.name].value, reverse=first.higher_is_better)
    return ModelRanking(
        evidence.items,
        reference,
        tuple(order),
        applied,
        {name: reason for name, reason in reasons.items() if reason is not None},
        estimates,
        comparisons,
        confidence,
        scores,
        models,
    )


def _lacks(outcome: Outcome, metric: ProbedMetric) -> bool:
    return metric.probe.key not in outcome.probes
