"""What is done about uneven classes: the section ``balancing`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.balancing import AnyBalancer


class Balancing(Section):
    """What is done about uneven classes; nothing, unless asked."""

    method: AnyBalancer | None = Field(default=None, description="repeats or drops training rows; null: as they come")
    weights: Literal["none", "inverse", "effective"] = Field(
        default="none",
        description="weight of a label in the loss. inverse: one over its rows; effective: one over its effective "
        "number of rows, (1 - beta^n) / (1 - beta) (Cui et al. 2019)",
    )
    beta: float = Field(default=0.999, gt=0, lt=1, description="of effective; towards 1 it becomes inverse")
    costs: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="right label to given label to cost; 1 where nothing is said, 0 on the diagonal. A label weighs "
        "in the loss as much as its mistakes cost on average (Ting 2002)",
    )
    stratified_batches: bool = Field(
        default=False, description="every label's share in each training batch; needs packing: none"
    )

    @model_validator(mode="after")
    def _sound_costs(self) -> Balancing:
        if any(cost < 0 for row in self.costs.values() for cost in row.values()):
            raise ValueError("a cost is zero or more")
        if any(row.get(label) for label, row in self.costs.items()):
            raise ValueError("the right answer costs nothing; remove costs of a label for itself")
        return self

    @property
    def asked(self) -> bool:
        """Whether anything needs labels."""
        return bool(self.method or self.costs or self.stratified_batches or self.weights != "none")
