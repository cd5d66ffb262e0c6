"""Apply the checks to drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.synthesis.checks.check import RowCheck, Step
from tasks.synthesis.drafts import Draft, Known


def verify(
    drafts: Sequence[Draft], checks: Sequence[RowCheck], step: Step, known: Known, name: str = ""
) -> list[Draft]:
    """The drafts, refused where a check has a reason; a later check sees only drafts that passed the earlier ones.

    Args:
        drafts: The drafts after the step; refused ones stay refused.
        checks: The checks, in order.
        step: The step, which determines the texts to check.
        known: Existing prompts and labels.
        name: Step under which refusals are counted, if it is another one.
    """
    checked = list(drafts)
    for check in checks:
        if step not in check.steps:
            continue
        remaining = [index for index, draft in enumerate(checked) if draft.reason is None]
        reasons = check.check([checked[index] for index in remaining], step, known)
        for index, reason in zip(remaining, reasons, strict=True):
            if reason is not None:
                checked[index] = checked[index].refuse(name or step, reason)
    return checked


def list_fields(checks: Sequence[RowCheck]) -> Mapping[str, str]:
    """Fields that must be generated with an instruction."""
    return {name: meaning for check in checks for name, meaning in check.fields.items()}


def list_hints(checks: Sequence[RowCheck]) -> list[str]:
    """Formats of the answer, for the prompts."""
    return [check.hint for check in checks if check.hint]
