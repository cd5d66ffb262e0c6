"""Replies as scores of the harness's measures, document by document."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.suites.harness.requests import list_responses
from tasks.evaluation.suites.suite import Measure, SuiteScores

# Names of the harness's aggregations that a value and a weight per document say all about.
MEANS = {"mean", "nanmean"}
RATIOS = {"agg_inst_level_acc"}
PERPLEXITIES = {"perplexity"}
WEIGHTED = {"weighted_perplexity", "bits_per_byte"}
CLASSES = {"f1_score", "matthews_corrcoef"}
# Metrics whose values lie between 0 and 1, which bounds differences that no document shows.
SHARE = re.compile(r"(^|_)(acc|exact|em|f1|match|pass|correct)")


def list_measures(key: str, tasks: Sequence[Any], first: str | None) -> dict[str, Measure]:
    """The measures of tasks that can be compared with intervals, the decisive one first.

    Args:
        key: The suite, for messages.
        tasks: Its tasks.
        first: Name of the decisive one; None: the tasks' first.

    Raises:
        PipelineError: There are none, or not the one that is asked for.
    """
    found: dict[str, Measure] = {}
    left_out: dict[str, str] = {}
    for task in tasks:
        better = task.higher_is_better()
        filters = [one.name for one in task._filters]
        for metric, aggregation in task.aggregation().items():
            how = name_aggregation(aggregation)
            for name in name_measures(metric, filters):
                if how not in MEANS | RATIOS | PERPLEXITIES | WEIGHTED | CLASSES:
                    left_out[name] = how
                    continue
                share = how in MEANS | RATIOS | {"f1_score"} and SHARE.search(metric) is not None
                exponentiated = how in PERPLEXITIES or how == "weighted_perplexity"
                found.setdefault(name, Measure(name, bool(better.get(metric, True)), share, exponentiated))
    if first is not None:
        chosen = [name for name in found if name == first or name.partition(", ")[0] == first]
        if not chosen:
            raise PipelineError(f"suite {key}: no measure {first}; found {', '.join(found) or 'none'}; correct measure")
        found = {chosen[0]: found[chosen[0]], **found}
    if not found:
        why = ", ".join(f"{name} by {how}" for name, how in left_out.items()) or "none at all"
        raise PipelineError(f"suite {key}: its measures cannot be compared with intervals ({why}); take another task")
    return found


def name_measures(metric: str, filters: Sequence[str]) -> list[str]:
    """The names of a metric, one for each filter of the answers where there are several."""
    return [metric] if len(filters) == 1 else [f"{metric}, {name}" for name in filters]


def name_aggregation(aggregation: Any) -> str:
    """The name of an aggregation function, also of one that is wrapped."""
    function = getattr(aggregation, "func", aggregation)
    return str(getattr(function, "__name__", type(function).__name__))


def score_documents(
    questions: Sequence[Question], replies: Sequence[Reply], measures: dict[str, Measure]
) -> SuiteScores:
    """Score one model; a document on which the task raises has failed, and the others go on.

    Args:
        questions: As `load_tasks` makes them.
        replies: One reply each.
        measures: Those to score.
    """
    import numpy as np

    from tasks.evaluation.metrics.metric import Scores, Tally

    values = {name: np.zeros(len(questions)) for name in measures}
    weights = {name: np.zeros(len(questions)) for name in measures}
    counts: dict[str, Any] = {}
    combines: dict[str, Any] = {}
    failed: dict[str, str] = {}
    documents: dict[int, list[int]] = {}
    for place, question in enumerate(questions):
        documents.setdefault(id(question.facts["document"]), []).append(place)
    for places in documents.values():
        if any(replies[place].unfit or replies[place].problem for place in places):
            continue
        first = questions[places[0]]
        try:
            found = _score_document([(questions[place], replies[place]) for place in places])
        except Exception as error:  # noqa: BLE001 - whatever a task raises, the other documents are scored
            failed[first.key] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        for name, (how, value) in found.items():
            if name not in measures:
                continue
            if how in CLASSES:
                gold, predicted = (int(one) for one in value)
                row = counts.setdefault(name, np.zeros((len(questions), 4)))
                row[places[0], 2 * gold + predicted], combines[name] = 1.0, COMBINE[how]
                value = float(gold == predicted)
            values[name][places[0]], weights[name][places[0]] = _read_value(how, value)
    return SuiteScores(
        {
            name: Scores(values[name], weights[name], Tally(counts[name], combines[name]) if name in counts else None)
            for name in measures
        },
        failed,
    )


def _score_document(parts: Sequence[tuple[Question, Reply]]) -> dict[str, tuple[str, Any]]:
    """Measure to how it is aggregated and the document's value."""
    document = parts[0][0].facts["document"]
    task, requests = document.task, document.requests
    for question, reply in parts:
        for place, response in zip(question.facts["places"], list_responses(question, reply), strict=True):
            requests[place].resps = [response] * requests[place].repeats
            requests[place].filtered_resps = {}
    for each in task._filters:
        each.apply(requests)
    aggregations = task.aggregation()
    filters = [one.name for one in task._filters]
    found = {}
    for number, name in enumerate(filters):
        results = task.process_results(document.doc, [one.filtered_resps[name] for one in requests])
        for metric, value in results.items():
            if metric in aggregations:
                found[name_measures(metric, filters)[number if len(filters) > 1 else 0]] = (
                    name_aggregation(aggregations[metric]),
                    value,
                )
    return found


def _read_value(how: str, value: Any) -> tuple[float, float]:
    """A document's value and weight, so that their weighted mean (its ``exp`` of perplexities) is the measure."""
    if how in RATIOS:
        return sum(map(float, value)) / len(value), float(len(value))
    if how in PERPLEXITIES:
        return -float(value), 1.0
    if how in WEIGHTED:
        total, size = value
        return -float(total) / size / (math.log(2) if how == "bits_per_byte" else 1.0), float(size)
    number = float(value)
    return (0.0, 0.0) if how == "nanmean" and math.isnan(number) else (number, 1.0)


def _f1(sums: Any) -> Any:
    import numpy as np

    _, false_positive, false_negative, true_positive = np.moveaxis(np.asarray(sums, dtype=float), -1, 0)
    whole = 2 * true_positive + false_positive + false_negative
    return np.divide(2 * true_positive, whole, out=np.zeros_like(whole), where=whole > 0)


def _matthews(sums: Any) -> Any:
    import numpy as np

    tn, fp, fn, tp = np.moveaxis(np.asarray(sums, dtype=float), -1, 0)
    whole = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.divide(tp * tn - fp * fn, whole, out=np.zeros_like(whole), where=whole > 0)


COMBINE = {"f1_score": _f1, "matthews_corrcoef": _matthews}
