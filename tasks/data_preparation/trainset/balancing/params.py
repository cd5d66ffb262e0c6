"""Class balancing: the section ``balancing`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.balancing import AnyBalancer


class Balancing(Section):
    """Balancing of the classes of the training rows; off by default."""

    method: AnyBalancer | None = Field(default=None, description="repeats or drops training rows; null: neither")
    weights: Literal["none", "inverse", "effective"] = Field(
        default="none",
        description="weight of a label in the loss. inverse: one over its rows; effective: one over its effective "
        "number of rows, (1 - beta^n) / (1 - beta) (Cui et al. 2019)",
    )
    beta: float = Field(default=0.999, gt=0, lt=1, description="beta of effective; towards 1 it becomes inverse")
    costs: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="right label to predicted label to cost; by default 1, and 0 on the diagonal. The weight of a "
        "label in the loss is the average cost of its mistakes (Ting 2002)",
    )
    stratified_batches: bool = Field(
        default=False, description="each training batch has the label shares of the data; needs packing: none"
    )

    @model_validator(mode="after")
    def _sound_costs(self) -> Balancing:
        if any(cost < 0 for row in self.costs.values() for cost in row.values()):
            raise ValueError("costs must not be negative")
        if any(row.get(label) for label, row in self.costs.items()):
            raise ValueError("the cost of the right label is 0; remove the costs of labels for themselves")
        return self

    @property
    def needs_labels(self) -> bool:
        """Whether any setting needs labels."""
        return bool(self.method or self.costs or self.stratified_batches or self.weights != "none")
