"""Answers that changed: items on which the candidate scores better or worse than its opponent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.evaluation.items import Item
from tasks.evaluation.outcomes import ModelName
from tasks.evaluation.scoring import Scoreboard


@dataclass(frozen=True)
class Change:
    """One item on which candidate and opponent differ.

    Attributes:
        item: The item.
        answers: Answers by model.
        values: Score on the primary metric by model.
        gain: How much better the candidate is; negative when it is worse.
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
    direction = 1.0 if board.metrics[primary].higher_is_better else -1.0
    candidate, opponent = board.scores[("candidate", primary)], board.scores[(board.opponent, primary)]
    gains = direction * (candidate.values - opponent.values) * (candidate.weights > 0)
    order = [int(index) for index in np.argsort(-np.abs(gains), kind="stable")]
    changes = [_make_change(board, primary, index, float(gains[index])) for index in order if gains[index] != 0]
    return [c for c in changes if c.gain > 0], [c for c in changes if c.gain < 0]


def _make_change(board: Scoreboard, primary: str, index: int, gain: float) -> Change:
    return Change(
        board.items[index],
        {model: outcome.answers[index] for model, outcome in board.outcomes.items()},
        {model: float(board.scores[(model, primary)].values[index]) for model in board.outcomes},
        gain,
    )
