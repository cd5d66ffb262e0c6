"""Labels outside of the set in params.

Example: with ``labels: [track_parcel, card_declined]`` the label ``parcel`` is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class LabelSetCheck(RowCheck):
    """The label is one of those that were asked for; nothing, where rows have no labels."""

    name: Literal["label_set"] = "label_set"

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("instructions",)

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        allowed = set(known.labels)
        return ["label not in the set" if allowed and draft.label not in allowed else None for draft in drafts]
