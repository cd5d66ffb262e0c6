"""The shape of a means to tell whether texts support claims, and how texts are cut into claims."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

# A sentence ends at its mark before white space, at a mark of scripts without spaces, and at the end of a line.
_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\]])\s+|(?<=[。！？])|\n+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
TextAndClaim = tuple[str, str]


class Support(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name.

    Attributes:
        reads_context: It reads what both texts say, so that a question before both of them helps.
    """

    reads_context: ClassVar[bool]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def find(self, questions: Sequence[TextAndClaim], folder: Path | None) -> list[bool]:
        """Whether a text supports a claim, for each pair of both.

        Args:
            questions: A text and a claim each.
            folder: Where a judge's verdicts are kept; None keeps none.

        Raises:
            PipelineError: It cannot be told.
        """
        ...


def split_claims(text: str) -> list[str]:
    """The sentences of a text, without bullets and numbers before them; of those that have a letter or digit."""
    parts = (_BULLET.sub("", part).strip() for part in _END.split(text))
    return [part for part in parts if any(character.isalnum() for character in part)]


def find_distinct(support: Support, questions: Sequence[TextAndClaim], folder: Path | None) -> dict[TextAndClaim, bool]:
    """The same, each pair told once."""
    distinct = list(dict.fromkeys(questions))
    return dict(zip(distinct, support.find(distinct, folder), strict=True))
