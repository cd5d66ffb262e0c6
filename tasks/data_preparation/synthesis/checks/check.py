"""What a check is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from tasks.data_preparation.synthesis.drafts import Draft, Known

Step = Literal["instructions", "answers"]


class Check(Protocol):
    """Holds drafts against something after one of the steps.

    Attributes:
        name: Of the check.
        steps: After which steps it looks.
        fields: What the writer of an instruction must give with it: name to description.
        hint: What an answer must look like, told to whoever writes it.
    """

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...
    @property
    def fields(self) -> Mapping[str, str]: ...
    @property
    def hint(self) -> str: ...
    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        """Per draft the reason to refuse it, None to go on."""
        ...
