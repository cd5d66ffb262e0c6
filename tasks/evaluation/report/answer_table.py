"""The answers item by item as a table for MLflow, whose pages show it and compare it between runs.

One row an item, the answers of the models beside each other, those that changed first. The texts are those of the
prepared data, so what personal data its cleaning removed is not in them. The table is bounded: long texts are cut, and
what does not fit is in ``predictions.parquet``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tasks.evaluation.scoring import Scoreboard

MOST_ROWS = 1_000
MAXIMUM_CHARACTERS = 1_000
# Of all texts together, so that the table opens in a browser.
MAXIMUM_IN_ALL = 1_200_000


def tabulate_answers(board: Scoreboard, primary: str) -> dict[str, list[Any]]:
    """Columns of the table; none where nothing was asked.

    Args:
        board: Answers and scores.
        primary: Metric that decides which answer is better.
    """
    candidate, opponent = board.scores["candidate", primary], board.scores[board.opponent, primary]
    direction = 1.0 if board.metrics[primary].higher_is_better else -1.0
    gains = direction * (candidate.values - opponent.values) * (candidate.weights > 0)
    order = [int(n) for n in np.lexsort((np.arange(len(gains)), -np.abs(gains), gains >= 0)) if board.items[n].prompt]
    rows: list[dict[str, Any]] = []
    room = MAXIMUM_IN_ALL
    for place in order[:MOST_ROWS]:
        row = _describe(board, primary, place, float(gains[place]))
        room -= sum(len(value) for value in row.values() if isinstance(value, str))
        if room < 0:
            break
        rows.append(row)
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _describe(board: Scoreboard, primary: str, place: int, gain: float) -> dict[str, Any]:
    item = board.items[place]
    return {
        "prompt": _cut("\n".join(f"{turn['role']}: {turn['content']}" for turn in item.prompt[-4:])),
        "reference": _cut(item.reference),
        **{model: _cut(outcome.answers[place]) for model, outcome in board.outcomes.items()},
        "change": "better" if gain > 0 else "worse" if gain < 0 else "same",
        **{
            f"{primary}, {model}": _number(board.scores[model, primary].values[place])
            if board.scores[model, primary].weights[place] > 0
            else None
            for model in board.outcomes
        },
        **{f"loss, {model}": _number(outcome.losses[place]) for model, outcome in board.outcomes.items()},
        "source": item.source,
        "label": item.label,
        "item": item.id,
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAXIMUM_CHARACTERS else f"{text[: MAXIMUM_CHARACTERS - 1]}…"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
