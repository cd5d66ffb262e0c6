"""The files of the stage: predictions per item, the verdict, the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tasks.contracts.headline import write_headline
from tasks.contracts.manifest import write_json
from tasks.contracts.records import PREDICTIONS
from tasks.contracts.tables import write_table
from tasks.evaluation.bias import bias_figures
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices.scores import Slice
from tasks.evaluation.suites.scoring import NO_SUITES, SuiteBoard
from tasks.evaluation.verdict import PromotionVerdict


def write_predictions(board: Scoreboard, path: Path) -> int:
    """Write one row per item and model, scores included; returns the number of rows."""
    rows = []
    for model, outcome in board.outcomes.items():
        for index, item in enumerate(board.items):
            rows.append(
                {
                    "item": item.id,
                    "model": model,
                    "source": item.source,
                    "label": item.label,
                    "prompt": list(item.prompt),
                    "reference": item.reference,
                    "answer": outcome.answers[index],
                    "loss": float(outcome.losses[index]),
                    "tokens": int(outcome.tokens[index]),
                    "scores": [
                        {"metric": name, "value": float(board.scores[(model, name)].values[index])}
                        for name, metric in board.metrics.items()
                        # The loss of an item has its own column, and its perplexity is only the exp of that.
                        if not metric.per_token and board.scores[(model, name)].weights[index] > 0
                    ],
                }
            )
    write_table(pa.Table.from_pylist(rows, schema=PREDICTIONS), path, PREDICTIONS)
    return len(rows)


def write_verdict(verdict: PromotionVerdict, path: Path) -> None:
    """Write ``verdict.json``."""
    write_json(path, verdict.model_dump())


def write_slices(slices: Sequence[Slice], path: Path) -> None:
    """Write the score of every model on every slice, a row each, as DVC plots them."""
    rows = [
        {"slice": f"{part.dimension} {part.name}", "items": part.items, "model": model, "score": value}
        for part in slices
        for model, value in part.values.items()
    ]
    write_json(path, rows)


def write_figures(
    board: Scoreboard, verdict: PromotionVerdict, path: Path, headline: Path, suites: SuiteBoard = NO_SUITES
) -> None:
    """Write ``metrics.json``, name of the figure to number, and the headline: the candidate's score on the primary
    metric and its difference to the opponent. Figures of suites are under ``suites.``."""
    primary = board.against_opponent[verdict.primary]
    write_headline(headline, {"score": primary.mean_a, "difference": primary.difference})
    of_suites = {f"suites.{name}": value for name, value in suites.figures.items() if math.isfinite(value)}
    promote = {"promote": int(verdict.verdict == "promote")}
    write_json(path, {**board.figures, **bias_figures(board.outcomes), **of_suites, **promote})
