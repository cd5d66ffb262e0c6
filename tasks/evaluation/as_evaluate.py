"""Any metric as an `evaluate.Metric`, for whatever takes one: a ``compute_metrics`` of transformers, an evaluator.

Nothing is fetched: the metric is the one of this package, wrapped, with the same numbers as on the page.

Example:
    ``as_evaluate(TokenF1()).compute(predictions=["the garden"], references=["old garden"])`` gives
    ``{"token_f1": 0.667}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.evaluation.comparison import mean
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.metric import Evidence, Metric
from tasks.evaluation.outcomes import Outcome


def as_evaluate(metric: Metric) -> Any:
    """An `evaluate.Metric` over texts.

    Args:
        metric: One that reads answers and references alone. Those that read losses or labels have nothing to read here
            and say so when they compute.

    Returns:
        A metric whose ``compute(predictions=..., references=...)`` gives the metric's name with its value.
    """
    import datasets
    import evaluate

    class Wrapped(evaluate.Metric):
        def _info(self) -> Any:
            text = datasets.Value("string")
            return evaluate.MetricInfo(
                description=str(type(metric).__doc__),
                citation="",
                features=datasets.Features({"predictions": text, "references": text}),
                inputs_description="predictions: answers, references: right answers; a text each",
            )

        def _compute(self, predictions: Sequence[str], references: Sequence[str], **_: Any) -> dict[str, float]:
            return {metric.name: score_texts(metric, predictions, references)}

    return Wrapped(keep_in_memory=True)


def score_texts(metric: Metric, answers: Sequence[str], references: Sequence[str]) -> float:
    """The score of answers against references.

    Raises:
        PipelineError: The metric does not apply to texts alone, or to none of these.
    """
    turns = ({"role": "user", "content": ""},)
    items = tuple(
        Item(str(place), "", None, str(place), turns, reference) for place, reference in enumerate(references)
    )
    evidence = Evidence(items, None)
    if why := metric.why_not_applicable(evidence):
        raise PipelineError(f"{metric.name}: {why}; take a metric that reads texts alone, such as token_f1")
    unknown = np.full(len(items), np.nan)
    outcome = Outcome(
        "texts", list(answers), np.ones(len(items), dtype=bool), unknown, np.ones(len(items), dtype=np.int64),
        np.zeros(len(items), dtype=np.int64),
    )  # fmt: skip
    value = mean(metric, metric.score(evidence, outcome))
    if not np.isfinite(value):
        raise PipelineError(
            f"{metric.name}: reads the model's losses, which texts do not have; score a model with `heptune evaluate`"
        )
    return value
