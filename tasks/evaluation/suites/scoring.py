"""Scores of all models on all suites, with intervals and paired differences, as those of the held-out items.

Whatever goes wrong with a suite is kept as a sentence and stops nothing: a file that is missing, a question that could
not be asked or scored, a score that is not a number. The gate reads those sentences (`tasks.evaluation.suites.gate`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.bootstrap import cluster_numbers, count_units, interval
from tasks.evaluation.comparison import Comparison, IntervalMethod, compare, influences, mean, scale
from tasks.evaluation.metrics.metric import Scores
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.scoring import Estimate, Key, resample
from tasks.evaluation.suites import AnySuite, expand_suites
from tasks.evaluation.suites.run_data import AsksAboutRun, RunData
from tasks.evaluation.suites.seen import find_seen
from tasks.evaluation.suites.suite import Suite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteQuestions:
    """The suites of a run and what they ask.

    Attributes:
        suites: By key.
        questions: By key of the suite; without those that could not be read.
        failures: Key of a suite to why its questions could not be read.
        seen: Key of a suite to its questions that stand in the training rows, by key, with the reason.
    """

    suites: dict[str, Suite]
    questions: dict[str, list[Question]] = field(repr=False)
    failures: dict[str, str]
    seen: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        counts = {f"{key}.questions": float(len(found)) for key, found in self.questions.items()}
        return counts | {f"{key}.seen_in_training": float(len(found)) for key, found in self.seen.items()}


@dataclass(frozen=True)
class SuiteResult:
    """What came out of one suite.

    Attributes:
        suite: The suite.
        questions: Questions asked.
        scored: Questions scored, the same for every model.
        unfit: Reason to questions that a model could not be asked, and that therefore count for none.
        failed: Key of a question to why it could not be scored, model and reason.
        truncated: By model, prompts whose beginning was cut off.
        cut_off: By model, answers that ran into a limit.
        estimates: By model and measure.
        comparisons: ``candidate_vs_base`` and so on to measure to difference.
        failure: Why nothing came of it; empty where something did.
    """

    suite: Suite
    questions: int = 0
    scored: int = 0
    unfit: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    truncated: dict[ModelName, int] = field(default_factory=dict)
    cut_off: dict[ModelName, int] = field(default_factory=dict)
    estimates: dict[Key, Estimate] = field(default_factory=dict)
    comparisons: dict[str, dict[str, Comparison]] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class SuiteBoard:
    """The results of all suites.

    Attributes:
        results: By key of the suite, in the order of the params.
        confidence: Confidence level of all intervals.
    """

    results: dict[str, SuiteResult]
    confidence: float = 0.95

    @property
    def figures(self) -> dict[str, float]:
        """``suite.model.measure`` to score and ``suite.pair.measure`` to difference, its ends, and the counts."""
        figures: dict[str, float] = {}
        for key, result in self.results.items():
            figures[f"{key}.questions"] = float(result.questions)
            figures[f"{key}.failed"] = float(bool(result.failure)) if not result.failed else float(len(result.failed))
            for (model, measure), one in result.estimates.items():
                figures[f"{key}.{model}.{measure}"] = one.value
            for pair, by_measure in result.comparisons.items():
                for measure, found in by_measure.items():
                    ends = {"difference": found.difference, "low": found.low, "high": found.high}
                    figures |= {f"{key}.{pair}.{measure}.{name}": value for name, value in ends.items()}
        return figures


NO_SUITES = SuiteBoard({})
NO_RUN = RunData()


def read_suites(suites: Sequence[AnySuite], run: RunData = NO_RUN) -> SuiteQuestions:
    """Read the questions of all suites; one that cannot be read is told, and fails the gate where it guards.

    Args:
        suites: The suites of the params, and groups of them.
        run: Items and training rows, for suites that ask about them; no question of the others must stand in the rows.
    """
    questions: dict[str, list[Question]] = {}
    failures: dict[str, str] = {}
    found_suites = expand_suites(suites)
    for suite in found_suites:
        try:
            found = suite.read_run(run) if isinstance(suite, AsksAboutRun) else suite.read()
        except PipelineError as error:
            failures[suite.key] = str(error)
        except Exception as error:
            logger.exception("%s: its questions cannot be read", suite.key)
            failures[suite.key] = f"its questions cannot be read ({type(error).__name__}: {error})"
        else:
            if found:
                questions[suite.key] = found
            else:
                failures[suite.key] = "it has no questions"
    for key, reason in failures.items():
        logger.warning("%s: %s", key, reason)
    others = {suite.key for suite in found_suites if not isinstance(suite, AsksAboutRun)}
    checked = {key: found for key, found in questions.items() if key in others}
    seen = {} if run.train is None else find_seen(checked, run.train)
    for key, keys in seen.items():
        logger.warning("%s: %s of %s questions stand in the training rows", key, len(keys), len(questions[key]))
    return SuiteQuestions({suite.key: suite for suite in found_suites}, questions, failures, seen)


def score_suites(
    asked: SuiteQuestions,
    outcomes: Sequence[Outcome | None],
    resamples: int,
    confidence: float,
    power: float,
    seed: int,
    interval_method: IntervalMethod = "expanded",
    reference: ModelName | None = None,
) -> SuiteBoard:
    """Score all models on all suites and compare them.

    Args:
        asked: The suites and their questions.
        outcomes: Base, champion (None where there is none) and candidate, with their replies.
        resamples: Number of bootstrap resamples.
        confidence: Confidence level of all intervals.
        power: Power at which the smallest detectable difference is stated.
        seed: Seed of the resampling.
        interval_method: How the ends of the intervals are found.
        reference: The model that each other one is compared with; None: the candidate is with each other one.
    """
    models = {outcome.model: outcome for outcome in outcomes if outcome is not None}
    pairs = [(list(models)[-1], other) for other in list(models)[:-1]]
    if reference is not None:
        pairs = [(model, reference) for model in models if model != reference]
    results = {}
    for key, suite in asked.suites.items():
        if key in asked.failures:
            results[key] = SuiteResult(suite, failure=asked.failures[key])
            continue
        questions = asked.questions[key]
        replies = {name: outcome.replies[key] for name, outcome in models.items() if key in outcome.replies}
        if len(replies) < len(models):
            silent = ", ".join(name for name in models if name not in replies)
            results[key] = SuiteResult(suite, len(questions), failure=f"{silent} was not asked")
            continue
        results[key] = _score_suite(
            suite,
            questions,
            replies,
            asked.seen.get(key, {}),
            pairs,
            resamples,
            confidence,
            power,
            seed,
            interval_method,
        )
    return SuiteBoard(results, confidence)


def _score_suite(
    suite: Suite,
    questions: Sequence[Question],
    replies: Mapping[ModelName, Sequence[Reply]],
    seen: Mapping[str, str],
    pairs: Sequence[tuple[ModelName, ModelName]],
    resamples: int,
    confidence: float,
    power: float,
    seed: int,
    interval_method: IntervalMethod,
) -> SuiteResult:
    failed = dict(seen)
    unfit: dict[str, int] = {}
    counted = np.ones(len(questions))
    for place, question in enumerate(questions):
        given = {model: each[place] for model, each in replies.items()}
        reasons = [reply.unfit for reply in given.values() if reply.unfit]
        problems = [f"{model}: {reply.problem}" for model, reply in given.items() if reply.problem]
        if problems:
            failed[question.key] = problems[0]
        elif reasons:
            unfit[reasons[0]] = unfit.get(reasons[0], 0) + 1
        counted[place] = float(question.key not in failed and not reasons)
    result = SuiteResult(
        suite,
        len(questions),
        unfit=unfit,
        truncated={model: sum(reply.truncated for reply in each) for model, each in replies.items()},
        cut_off={model: sum(not reply.finished for reply in each) for model, each in replies.items()},
    )
    scores: dict[Key, Scores] = {}
    for model, each in replies.items():
        try:
            found = suite.score(questions, each)
        except Exception as error:
            logger.exception("%s: the replies of %s cannot be scored", suite.key, model)
            return replace(result, failed=failed, failure=f"scoring {model} raised {type(error).__name__}: {error}")
        failed |= {key: f"{model}: {reason}" for key, reason in found.failed.items()}
        for name, one in found.scores.items():
            scores[model, name] = one
            # A value without weight counts nowhere and may be anything.
            broken = ~np.isfinite(np.where(one.weights > 0, one.values, 0.0)) | ~np.isfinite(one.weights)
            for place in np.flatnonzero(broken & (counted > 0)).tolist():
                failed.setdefault(questions[place].key, f"{model}: {name} is not a number")
    counted *= np.array([float(question.key not in failed) for question in questions])
    scored = int(counted.sum())
    result = replace(result, failed=failed, scored=scored)
    if not scored:
        return replace(result, failure="no question could be scored" + _first(failed, unfit))
    measures: dict[str, Any] = {name: one for name, one in suite.measures.items() if _is_scored(name, scores, counted)}
    if not measures:
        return replace(result, failure="no measure applies to its questions")
    kept = {key: _keep(one, _common(key[1], scores, counted)) for key, one in scores.items() if key[1] in measures}
    clusters = [question.unit for question in questions]
    replicates = resample(kept, clusters, resamples, seed)
    estimates = {}
    for (model, name), one in kept.items():
        measure = measures[name]
        value, units = mean(measure, one), count_units(one.weights, clusters)
        skew = (value, influences(measure, one, cluster_numbers(clusters))) if interval_method == "bca" else None
        ends = interval(scale(measure, replicates[model, name]), confidence, units, skew)
        estimates[model, name] = Estimate(value, *ends)
    comparisons = {
        f"{model}_vs_{other}": {
            name: compare(
                measure,
                kept[model, name],
                kept[other, name],
                replicates[model, name],
                replicates[other, name],
                clusters,
                confidence,
                power,
                interval_method,
            )
            for name, measure in measures.items()
        }
        for model, other in pairs
    }
    return replace(result, estimates=estimates, comparisons=comparisons)


def _first(failed: Mapping[str, str], unfit: Mapping[str, int]) -> str:
    reasons = [*failed.values(), *unfit]
    return f" ({reasons[0]})" if reasons else ""


def _common(name: str, scores: Mapping[Key, Scores], counted: Any) -> Any:
    """Which questions count for every model on a measure."""
    of_models = [one.weights > 0 for (_, measure), one in scores.items() if measure == name]
    return counted * np.logical_and.reduce(of_models)


def _is_scored(name: str, scores: Mapping[Key, Scores], counted: Any) -> bool:
    """Whether a measure has any weight for every model, so that models can be compared on it."""
    return any(measure == name for _, measure in scores) and bool(_common(name, scores, counted).any())


def _keep(scores: Scores, counted: Any) -> Scores:
    """Scores of the questions that count; the others have neither value nor weight."""
    inside = counted > 0
    tally = scores.tally and replace(scores.tally, counts=np.where(inside[:, None], scores.tally.counts, 0.0))
    return Scores(np.where(inside, scores.values, 0.0), np.where(inside, scores.weights, 0.0), tally)
