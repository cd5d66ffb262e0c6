"""Data pruning: the section ``pruning`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.pruning import AnyPruner


class Pruning(Section):
    """Pruning of the training rows; off by default."""

    method: AnyPruner | None = Field(default=None, description="scores the rows; null: all rows are kept")
    keep: float = Field(default=0.5, gt=0, lt=1, description="share of the training rows that are kept")
    per_label: bool = Field(default=True, description="keep that share of every label, at least one row")
    seed: int = Field(default=0, description="seed of the method")
