"""Every trial runs to its end: for a grid whose losses are all of interest, or for trials of a few validations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasks.contracts.params import Section


class NoPruning(Section):
    """Every trial runs to its end."""

    name: Literal["none"] = Field(default="none")

    def make(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import NopPruner

        return NopPruner()
