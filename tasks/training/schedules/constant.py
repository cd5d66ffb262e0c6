"""Constant: the peak rate until the end.

Good for short runs, for runs whose end is not known, and with an average of the weights (``ema_decay``), which does
what a falling rate does.

Example: ``schedule: {name: constant}``.
"""

from __future__ import annotations

from typing import Literal

from tasks.contracts.params import Section


class Constant(Section):
    """The peak until the end."""

    name: Literal["constant"] = "constant"

    def problems(self, warmup_share: float) -> list[str]:
        return []

    def describe(self) -> str:
        return "constant"

    def share(self, step: int, steps: int, warmup_steps: int) -> float:
        return 1.0
