"""Params of ``heptune search``: what is varied, how values are chosen, and when a trial is given up."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.search.pruners import AnyPruner
from tasks.search.pruners.median import Median
from tasks.search.samplers import AnySampler
from tasks.search.samplers.tpe import Tpe
from tasks.search.space import Dimension

SEARCHED = ("training_setup", "fine_tuning")
# What is trained on or from: another value of it needs the stages before.
EARLIER = ("data_preparation", "model_initialisation")


class ParamSearch(Section):
    """Trials of the training, ranked by validation loss on the same rows."""

    title: str = Field(
        default="search", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the search; another one begins anew"
    )
    space: dict[str, Dimension] = Field(
        min_length=1,
        description="keys of training_setup and fine_tuning, each with a list of values, or with a range: "
        "{log: [1.0e-4, 1.0e-2]}, {linear: [0, 0.2]} or {integers: [1, 4]}",
    )
    method: AnySampler = Field(default=Tpe(), description="how values are chosen: grid, random or tpe")
    trials: int = Field(default=20, ge=1, description="trials in all, those of earlier calls counted; grid has its own")
    pruning: AnyPruner = Field(default=Median(), description="when a trial is given up: median, halving or none")
    seed: int = Field(default=17, ge=0, description="of the draws")

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        problems = self.method.problems(self.space)
        for key in self.space:
            stage = key.partition(".")[0]
            if stage in EARLIER:
                problems.append(
                    f"space.{key}: changes what the trials train on or from, which needs the stages before; expected "
                    f"keys of {' or '.join(SEARCHED)}; compare such values with `heptune run -S {key}=...`"
                )
            elif stage not in SEARCHED or "." not in key:
                problems.append(f"space.{key}: is no key of {' or '.join(SEARCHED)}, which a search varies")
        if problems:
            raise ValueError("; ".join(problems))
        return self
