"""Data pruning: keep the training rows with the highest scores, and drop the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.corpus.rows.learned import learned_messages
from tasks.corpus.rows.rows import Rows, column_messages, finish_step, join_turns
from tasks.data_preparation.trainset.pruning.params import Pruning
from tasks.data_preparation.trainset.pruning.pool import Array, Pool


class Pruner(Protocol):
    """A method that scores rows."""

    @property
    def name(self) -> str: ...
    def score(self, pool: Pool) -> Array: ...


def prune_train(rows: Rows, settings: Pruning) -> Rows:
    """Drop the training rows with the lowest scores.

    Args:
        rows: Split rows.
        settings: Method and share.

    Returns:
        The rows that remain; all of them when there is no method.

    Raises:
        PipelineError: A requirement of the method is missing.
    """
    if settings.method is None:
        return rows
    splits = rows.table["split"].to_pylist()
    places = [place for place, split in enumerate(splits) if split == "train"]
    pool = _collect(rows.table, places, settings.seed)
    scores = settings.method.score(pool)
    if len(scores) != len(places) or not np.isfinite(scores).all():
        raise PipelineError(f"pruning by {settings.method.name}: some rows have no score; take another method")
    kept = choose_best(scores, pool.labels if settings.per_label else [None] * len(places), settings.keep)
    reasons: list[str | None] = [None] * len(splits)
    for row, place in enumerate(places):
        if row not in kept:
            reasons[place] = f"not among the {settings.keep:.0%} kept by {settings.method.name}"
    return finish_step(rows, "pruning", rows.table, reasons, notes={"train_before": len(places), "train": len(kept)})


def choose_best(scores: Array, labels: Sequence[str | None], keep: float) -> set[int]:
    """The indices of the rows with the highest scores, a share of every label; of equal scores the first."""
    groups: dict[str | None, list[int]] = {}
    for row, label in enumerate(labels):
        groups.setdefault(label, []).append(row)
    kept: set[int] = set()
    for members in groups.values():
        best = sorted(members, key=lambda row: (-float(scores[row]), row))
        kept.update(best[: max(1, round(keep * len(members)))])
    return kept


def _collect(table: pa.Table, places: list[int], seed: int) -> Pool:
    train = table.take(pa.array(places, pa.int64()))
    validation = table.filter(pa.array([split == "validation" for split in table["split"].to_pylist()], pa.bool_()))
    messages = learned_messages(train)
    return Pool(
        train["id"].to_pylist(),
        join_turns(messages, ["user"]),
        join_turns(messages, ["assistant"]),
        train["label"].to_pylist(),
        join_turns(column_messages(validation), ["user"]),
        validation["label"].to_pylist(),
        seed,
    )
