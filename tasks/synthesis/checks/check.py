"""The interface of a check."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

Step = Literal["instructions", "answers"]


class RowCheck(Section):
    """A check of drafts after one of the steps."""

    name: str

    @property
    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """The steps after which it runs."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Fields that must be generated with an instruction: name to description."""
        return {}

    @property
    def hint(self) -> str:
        """Format of the answer, for the prompt of the teacher."""
        return ""

    @abstractmethod
    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        """For each draft the reason to refuse it, or None."""
