"""The outcome of one check of the gate."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data_preparation.gate.expectations import Check


@dataclass(frozen=True)
class Result:
    """One check's outcome.

    Attributes:
        check: The check.
        success: Whether the check passed.
        finding: The finding as a text.
    """

    check: Check
    success: bool
    finding: str
