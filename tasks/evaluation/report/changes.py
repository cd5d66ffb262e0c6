"""Answers that changed: items on which one model scores better or worse than another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.evaluation.items import Item
from tasks.evaluation.metrics.metric import Metric, Scores
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.scoring import Key, Scoreboard


@dataclass(frozen=True)
class Change:
    """One item on which two models differ.

    Attributes:
        item: The item.
        answers: Answers by model.
        values: Score on the primary metric by model.
        gain: How much better the newer one is; negative when it is worse.
    """

    item: Item
    answers: dict[ModelName, str]
    values: dict[ModelName, float]
    gain: float


def find_changes(board: Scoreboard, primary: str) -> tuple[list[Change], list[Change]]:
    """Items the candidate improved and items it made worse, the largest change first.

    Args:
        board: All scores.
        primary: Metric that decides which answer is better.
    """
    return list_changes(
        board.items, board.outcomes, board.scores, board.metrics[primary], board.opponent, "candidate", board.outcomes
    )


def is_binary(scores: Iterable[Scores]) -> bool:
    """Whether all items are right or wrong."""
    return all(set(one.values[one.weights > 0].tolist()) <= {0.0, 1.0} for one in scores)


def list_changes(
    items: Sequence[Item],
    outcomes: Mapping[ModelName, Outcome],
    scores: Mapping[Key, Scores],
    metric: Metric,
    before: ModelName,
    after: ModelName,
    shown: Iterable[ModelName],
) -> tuple[list[Change], list[Change]]:
    """Items on which a model is better than another, and those on which it is worse, the largest change first.

    Args:
        items: The items.
        outcomes: Answers by model.
        scores: By model and metric.
        metric: Decides which answer is better.
        before: The other model.
        after: The model.
        shown: Models whose answers go with a change.
    """
    direction = 1.0 if metric.higher_is_better else -1.0
    new, old = scores[after, metric.name], scores[before, metric.name]
    gains = direction * (new.values - old.values) * (new.weights > 0)
    order = [int(index) for index in np.argsort(-np.abs(gains), kind="stable") if gains[index] != 0]
    models = list(shown)
    changes = [
        Change(
            items[place],
            {model: outcomes[model].answers[place] for model in models},
            {model: float(scores[model, metric.name].values[place]) for model in models},
            float(gains[place]),
        )
        for place in order
    ]
    return [c for c in changes if c.gain > 0], [c for c in changes if c.gain < 0]
