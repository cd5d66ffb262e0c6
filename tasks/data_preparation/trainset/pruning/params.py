"""Which share of the training rows stays: the section ``pruning`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.pruning import AnyPruner


class Pruning(Section):
    """Which share of the training rows stays; all of them, unless asked."""

    method: AnyPruner | None = Field(default=None, description="what tells which rows stay; null: all stay")
    keep: float = Field(default=0.5, gt=0, lt=1, description="share of the training rows that stay")
    per_label: bool = Field(default=True, description="keep that share of every label, one row at least")
    seed: int = Field(default=0, description="of the method")
