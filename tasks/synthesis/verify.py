"""Hold drafts against the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.synthesis.checks.check import DraftCheck, Step
from tasks.synthesis.drafts import Draft, Known


def verify(
    drafts: Sequence[Draft], checks: Sequence[DraftCheck], step: Step, known: Known, name: str = ""
) -> list[Draft]:
    """The drafts, refused where a check has a reason; a later check sees only what the earlier ones let through.

    Args:
        drafts: As they are after the step; refused ones stay so.
        checks: In order.
        step: Which texts are there to be looked at.
        known: What there is already.
        name: Step under which refusals are counted, if another.
    """
    checked = list(drafts)
    for check in checks:
        if step not in check.steps:
            continue
        places = [place for place, draft in enumerate(checked) if draft.reason is None]
        for place, reason in zip(places, check.check([checked[place] for place in places], step, known), strict=True):
            if reason is not None:
                checked[place] = checked[place].refuse(name or step, reason)
    return checked


def list_fields(checks: Sequence[DraftCheck]) -> Mapping[str, str]:
    """What the writer of an instruction must give with it."""
    return {name: meaning for check in checks for name, meaning in check.fields.items()}


def list_hints(checks: Sequence[DraftCheck]) -> list[str]:
    """What an answer must look like."""
    return [check.hint for check in checks if check.hint]
