"""Scores of all models on all metrics and slices, with intervals from the same resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tasks.evaluation.bootstrap import Floats, cluster_numbers, count_units, interval, replicate_means, replicate_tally
from tasks.evaluation.comparison import Comparison, IntervalMethod, compare, influences, mean, scale
from tasks.evaluation.cross_checks import widen_p
from tasks.evaluation.held_out.folds import NO_FOLDS, Folds
from tasks.evaluation.held_out.paired import check_same_items, score_paired
from tasks.evaluation.held_out.seeds import average_scores, join_seeds
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.metric import Evidence, Metric, Scores, why_not_applicable
from tasks.evaluation.outcomes import ModelName, Outcome

Key = tuple[ModelName, str]
# The mean of the candidate and of the models of other training seeds.
SEEDS = "candidate over seeds"


class Estimate(NamedTuple):
    """A score with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scoreboard:
    """All scores.

    Attributes:
        items: The held-out items.
        outcomes: By model, in the order base, champion, candidate.
        metrics: Metrics that apply, by name in the order of the params.
        not_applicable: Metric name to why it does not apply.
        incomparable: Metric name to why champion and candidate cannot be compared on it.
        widening: Metric name to how many times as wide its interval is as that of the resampled items alone.
        folds: Number of folds whose models answered; 0: the candidate answered all.
        failed: Those of the incomparable ones that raised or gave what is not a number.
        unpaired: Metric name to the number of items scored for some models only, which are left out.
        scores: By model and metric.
        replicates: Resampled means by model and metric, before any ``exp``.
        estimates: By model and metric.
        comparisons: ``candidate_vs_base`` and ``candidate_vs_champion`` to metric name to difference.
        ceiling: Accuracy of the intent classifier on the reference answers, where there are labels.
        abstained: Per model the answers to labelled items that have no recognised intent; empty without labels.
        confidence: Confidence level of all intervals.
        power: Power at which the smallest detectable differences are stated.
    """

    items: tuple[Item, ...] = field(repr=False)
    outcomes: dict[ModelName, Outcome] = field(repr=False)
    metrics: dict[str, Metric] = field(repr=False)
    not_applicable: dict[str, str]
    incomparable: dict[str, str]
    scores: dict[Key, Scores] = field(repr=False)
    replicates: dict[Key, Floats] = field(repr=False)
    estimates: dict[Key, Estimate]
    comparisons: dict[str, dict[str, Comparison]]
    ceiling: float | None
    abstained: dict[ModelName, int]
    confidence: float
    power: float
    failed: dict[str, str] = field(default_factory=dict)
    unpaired: dict[str, int] = field(default_factory=dict)
    widening: dict[str, float] = field(default_factory=dict)
    folds: int = 0

    @property
    def opponent(self) -> ModelName:
        """The model that the candidate must beat: the champion, or the base where there is none."""
        return "champion" if "champion" in self.outcomes else "base"

    @property
    def against_opponent(self) -> dict[str, Comparison]:
        return self.comparisons[f"candidate_vs_{self.opponent}"]

    def find_p(self, metric: str) -> float:
        """Two-sided p of the candidate's difference to its opponent: twice the share of resamples beyond zero.

        Where the interval is wider than that of the resamples, their distance from zero in standard deviations of the
        normal distribution counts by so much less. No resample beyond zero would then be a p at which nothing is clear
        among several metrics: that of Student's distribution stands for it, with the resamples' standard deviation.
        """
        model = SEEDS if (SEEDS, metric) in self.replicates else "candidate"
        keys: tuple[Key, Key] = ((model, metric), (self.opponent, metric))
        candidate, opponent = (scale(self.metrics[metric], self.replicates[key]) for key in keys)
        beyond = min((candidate <= opponent).sum(), (candidate >= opponent).sum())
        p = min(1.0, 2 * float(beyond + 1) / (len(candidate) + 1))
        factor = self.widening.get(metric, 1.0)
        if not beyond and factor != 1:
            p = min(p, self._find_tail(metric, candidate - opponent))
        return widen_p(p, factor)

    def _find_tail(self, metric: str, differences: Floats) -> float:
        """Two-sided p of resampled differences that are all on one side of zero; 1 where they do not vary."""
        from scipy.special import stdtr

        deviation = float(differences.std())
        units = count_units(self.scores["candidate", metric].weights, [item.cluster for item in self.items])
        if not deviation > 0 or units < 2:
            return 1.0
        return float(2 * stdtr(units - 1, -abs(float(differences.mean())) / deviation))

    @property
    def figures(self) -> dict[str, float]:
        figures: dict[str, float] = {"items": float(len(self.items))}
        for (model, metric), estimate in self.estimates.items():
            figures[f"{model}.{metric}"] = estimate.value
        for pair, by_metric in self.comparisons.items():
            for metric, comparison in by_metric.items():
                figures[f"{pair}.{metric}.difference"] = comparison.difference
                figures[f"{pair}.{metric}.low"] = comparison.low
                figures[f"{pair}.{metric}.high"] = comparison.high
                figures[f"{pair}.{metric}.detectable"] = comparison.detectable
        if self.ceiling is not None:
            figures["intent_ceiling"] = self.ceiling
        figures |= {f"{model}.intent_abstained": float(count) for model, count in self.abstained.items()}
        return figures


def score_outcomes(
    evidence: Evidence,
    outcomes: Sequence[Outcome | None],
    metrics: Sequence[Metric],
    resamples: int,
    confidence: float,
    power: float,
    seed: int,
    interval_method: IntervalMethod = "expanded",
    seeds: Sequence[Outcome] = (),
    folds: Folds = NO_FOLDS,
) -> Scoreboard:
    """Score all models on all metrics that apply and compare the candidate with the others.

    Args:
        evidence: Items and intent classifier.
        outcomes: Base, champion (None where there is none) and candidate.
        metrics: Metrics to score.
        resamples: Number of bootstrap resamples.
        confidence: Confidence level of all intervals.
        power: Power at which the smallest detectable difference is stated.
        seed: Seed of the resampling.
        interval_method: How the ends of the intervals are found.
        seeds: Answers of models trained like the candidate with other seeds.
        folds: How the training rows were dealt, where they are items.

    Raises:
        PipelineError: A model answered other items.
    """
    models = {outcome.model: outcome for outcome in outcomes if outcome is not None}
    repeated = {outcome.model: outcome for outcome in seeds}
    check_same_items(evidence, models | repeated)
    reasons = {metric.name: why_not_applicable(metric, evidence) for metric in metrics}
    not_applicable = {name: reason for name, reason in reasons.items() if reason is not None}
    paired = {m.name: score_paired(m, evidence, models | repeated) for m in metrics if m.name not in not_applicable}
    failed = {name: one.failure for name, one in paired.items() if one.failure}
    applied = {metric.name: metric for metric in metrics if metric.name in paired and metric.name not in failed}
    scores: dict[Key, Scores] = {(model, name): paired[name].scores[model] for name in applied for model in models}
    by_seed = {name: [paired[name].scores[model] for model in ("candidate", *repeated)] for name in applied}
    if repeated:
        scores |= {(SEEDS, name): average_scores(by_seed[name]) for name in applied}
    judged = SEEDS if repeated else "candidate"
    clusters = [item.cluster for item in evidence.items]
    replicates = resample(scores, clusters, resamples, seed) if scores else {}
    estimates: dict[Key, Estimate] = {}
    for key, model_scores in scores.items():
        if key[0] == SEEDS:
            continue
        metric = applied[key[1]]
        value, units = mean(metric, model_scores), count_units(model_scores.weights, clusters)
        skew = None
        if interval_method == "bca":
            skew = value, influences(metric, model_scores, cluster_numbers(clusters))
        ends = interval(scale(metric, replicates[key]), confidence, units, skew)
        if folds.count:
            ends = widen(value, ends, folds.widening, metric.bounded)
        estimates[key] = Estimate(value, *ends)
    incomparable: dict[str, str] = dict(failed)
    comparisons: dict[str, dict[str, Comparison]] = {}
    widening: dict[str, float] = {}
    opponent = "champion" if "champion" in models else "base"
    for other in [model for model in models if model != "candidate"]:
        comparisons[f"candidate_vs_{other}"] = by_metric = {}
        for name, metric in applied.items():
            counted = scores[("candidate", name)].weights > 0
            if metric.per_token and not np.array_equal(
                models["candidate"].tokens[counted], models[other].tokens[counted]
            ):
                incomparable[name] = f"{other} and candidate tokenize text differently"
                continue
            candidate_key: Key = (judged, name)
            other_key: Key = (other, name)
            one = compare(
                metric,
                scores[candidate_key],
                scores[other_key],
                replicates[candidate_key],
                replicates[other_key],
                clusters,
                confidence,
                power,
                interval_method,
                tail=bool(folds.count or repeated),
            )
            wide = one.widen(folds.widening) if folds.count else one
            if repeated:
                value = mean(metric, scores[other_key])
                wide = join_seeds(wide, [mean(metric, found) - value for found in by_seed[name]], confidence, power)
                if one.checks and one.high > one.low:
                    checks = one.checks.widen((wide.high - wide.low) / (one.high - one.low))
                    wide = wide.model_copy(update={"checks": checks})
            if wide is not one and other == opponent and one.high > one.low:
                widening[name] = (wide.high - wide.low) / (one.high - one.low)
            by_metric[name] = wide
    intents = evidence.intents if "intent_accuracy" in applied else None
    labelled = np.array([item.label is not None and bool(item.prompt) for item in evidence.items])
    abstained = {
        model: sum(name is None for name in np.array(intents.classify(outcome.answers), dtype=object)[labelled])
        for model, outcome in models.items()
        if intents is not None
    }
    return Scoreboard(
        evidence.items,
        models,
        applied,
        not_applicable,
        incomparable,
        scores,
        replicates,
        estimates,
        comparisons,
        intents.ceiling if intents else None,
        abstained,
        confidence,
        power,
        failed,
        {name: one.unpaired for name, one in paired.items() if one.unpaired},
        widening,
        folds.count,
    )


def widen(value: float, ends: tuple[float, float], factor: float, bounded: bool) -> tuple[float, float]:
    """An interval so many times as wide, within 0 and 1 where the score is."""
    low, high = (value + factor * (end - value) for end in ends)
    return (max(0.0, low), min(1.0, high)) if bounded else (low, high)


def resample(scores: dict[Key, Scores], clusters: Sequence[str], resamples: int, seed: int) -> dict[Key, Floats]:
    """Resampled scores, before any ``exp``, all from the same draws."""
    means = {key: one for key, one in scores.items() if one.tally is None}
    found: dict[Key, Floats] = {}
    if means:
        columns = replicate_means(
            np.column_stack([one.values for one in means.values()]),
            np.column_stack([one.weights for one in means.values()]),
            clusters,
            resamples,
            seed,
        )
        found = {key: columns[:, column] for column, key in enumerate(means)}
    for key, one in scores.items():
        if one.tally is not None:
            found[key] = replicate_tally(one.tally.counts, one.tally.combine, clusters, resamples, seed)
    return {key: found[key] for key in scores}
