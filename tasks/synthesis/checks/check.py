"""What a check is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

Step = Literal["instructions", "answers"]


class DraftCheck(Section):
    """Holds drafts against something after one of the steps."""

    name: str

    @property
    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """After which steps it looks."""

    @property
    def fields(self) -> Mapping[str, str]:
        """What the writer of an instruction must give with it: name to description."""
        return {}

    @property
    def hint(self) -> str:
        """What an answer must look like, told to whoever writes it."""
        return ""

    @abstractmethod
    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        """Per draft the reason to refuse it, None to go on."""
