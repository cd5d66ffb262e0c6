"""How often something happens in a run: every so many optimizer steps, or passes over the training split."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.contracts.params import Section


class Interval(Section):
    """``{steps: 200}`` or ``{epochs: 0.5}``."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    epochs: float | None = Field(default=None, gt=0, description="passes over the training split")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("found both or neither of steps and epochs; write {steps: 200} or {epochs: 1}")
        return self

    def describe(self) -> str:
        """What follows ``every``: ``20 steps``, ``epoch``, ``0.5 epochs``."""
        number, unit = (self.steps, "step") if self.steps is not None else (self.epochs, "epoch")
        return unit if number == 1 else f"{number:g} {unit}s"

    def in_steps(self, steps_per_epoch: float) -> int:
        """The interval in whole optimizer steps, at least one.

        Args:
            steps_per_epoch: Optimizer steps of one epoch, with what of a step the next epoch fills.
        """
        return self.steps if self.steps is not None else max(1, round((self.epochs or 0) * steps_per_epoch))
