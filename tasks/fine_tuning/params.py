"""Params of fine-tuning. What is trained and how is resolved by training setup and stands in the plan."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section


class FineTuning(Section):
    """Checkpoints and validation of a run; neither changes the weights."""

    keep_checkpoints: int = Field(2, ge=1, description="number of newest checkpoints kept during a run")
    validation_rows: int = Field(
        256, ge=1, description="maximum number of validation conversations in each validation loss"
    )
