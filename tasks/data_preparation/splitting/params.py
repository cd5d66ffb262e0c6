"""How rows are assigned to the splits: the section ``split`` of ``params.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.data_preparation.splitting.methods import AnySplit
from tasks.data_preparation.splitting.methods.assignment import SPLITS
from tasks.data_preparation.splitting.methods.content import Content


class Split(Section):
    """How rows are assigned to the splits."""

    method: AnySplit = Field(default=Content(), description="method that decides the split of a row")
    validation: float = Field(default=0.05, gt=0, lt=1, description="share of the rows")
    test: float = Field(default=0.10, gt=0, lt=1, description="share of the rows")
    seed: int = Field(default=0, description="another seed gives another split")
    min_per_class: int = Field(default=0, ge=0, description="minimum rows of each label in each split; 0: no minimum")
    on_small_class: Literal["stop", "keep"] = Field(
        default="stop", description="what happens when a label has fewer rows in a split than min_per_class"
    )
    train_only: tuple[str, ...] = Field(
        default=(), description="titles of sources whose rows are never held out, such as generated data"
    )

    @model_validator(mode="after")
    def _leaves_train(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave a share for train")
        return self

    @model_validator(mode="after")
    def _shares_apply(self) -> Split:
        given = sorted(self.model_fields_set & {"validation", "test"})
        if given and not self.method.uses_shares:
            raise ValueError(f"method {self.method.name} takes no shares; remove {' and '.join(given)}")
        return self

    def list_shares(self, counts: Mapping[str, int]) -> dict[str, float]:
        """The share each split should have; its actual share where the method takes none."""
        if not self.method.uses_shares:
            return {name: counts[name] / max(sum(counts.values()), 1) for name in SPLITS}
        return {"train": 1 - self.validation - self.test, "validation": self.validation, "test": self.test}
