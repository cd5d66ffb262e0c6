"""Section ``evaluation.gate.reuse`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section


class HeldOutReuse(Section):
    """How often one held-out set may decide, see `tasks.evaluation.decisions.reuse`."""

    spending: Literal["equal", "none"] = Field(
        default="equal",
        description="equal: the first decision on a set has half of the error rate, the later ones share the other "
        "half; none: each is judged as if it were the first",
    )
    decisions: int = Field(default=10, ge=2, description="number of decisions that one set may make")
    overlap: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of the items that an earlier decision must have used to be one on the same set",
    )
