"""What a check looks at and what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from flows.wiring.params import Params
    from tasks.contracts.machine import Machine

# error: some command fails, or works wrongly; warning: probably not meant; note: good to know.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: How bad.
        place: File, variable, package or server.
        found: What is so, and what was expected.
        fix: The next step.
    """

    severity: Severity
    place: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}; {self.fix}"


@dataclass(frozen=True)
class Surroundings:
    """What checks have in common; everything else they read themselves, from the current folder on.

    Attributes:
        machine: What training has at its disposal.
        params: The params; None where they cannot be read, which a check of its own tells.
        system: The root of the system's own files, ``/proc`` and the like.
    """

    machine: Machine
    params: Params | None
    system: Path = Path("/")


class Examiner(Protocol):
    """A module of `flows.commands.doctor.checks`; its name is the check's."""

    __name__: str

    def examine(self, here: Surroundings) -> Iterator[Finding]:
        """Everything that it finds; nothing where all is well."""
        ...
