"""The shape of a reward: what an answer of the model is worth, one number for each.

A reward is a frozen section of params. It is opened once for a run and then given the answers of every rollout, with
what is known of their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from tasks.language_models.templates.rendering import Turns

Reference = Literal["answer", "label"]
Bounds = tuple[float, float]  # the lowest and the highest value
BINARY: Bounds = (0.0, 1.0)


def weight_field() -> Any:
    """The param that every reward has."""
    return Field(default=1.0, description="factor of this reward in the sum of all; negative: a penalty")


def reference_field() -> Any:
    """The param of rewards that compare with what the row has."""
    return Field(default="answer", description="what an answer is compared with: the row's own answer, or its label")


@dataclass(frozen=True)
class AnswerAttempt:
    """An answer of the model, and its row.

    Attributes:
        prompt: The turns before the answer.
        answer: Its text, without special tokens; of several turns with tools the last one.
        tokens: Tokens that the model wrote, the end included.
        finished: The model ended it, rather than running into the limit.
        reference: The row's own answer; None where it has none.
        label: The row's label; None where it has none.
        row: Id of the row.
    """

    prompt: Turns
    answer: str
    tokens: int
    finished: bool
    reference: str | None
    label: str | None
    row: str

    def known(self, field: Reference) -> str | None:
        """What the row has of a field."""
        return self.reference if field == "answer" else self.label


@dataclass(frozen=True)
class RowFacts:
    """What the rows of the training split have.

    Attributes:
        rows: Their number.
        having: Field to the number of rows that have it.
    """

    rows: int
    having: dict[Reference, int]


Scorer = Callable[[Sequence[AnswerAttempt]], list[float]]


class Reward(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name and a ``weight``."""

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    @property
    def weight(self) -> float:
        """Factor in the sum of all rewards."""
        ...

    @property
    def needs(self) -> tuple[Reference, ...]:
        """Fields without which a row cannot be rewarded."""
        ...

    @property
    def bounds(self) -> Bounds:
        """The lowest and the highest value that it gives, before its weight; infinite where it is not bounded."""
        ...

    def problems(self) -> list[str]:
        """Everything that cannot work: what was found, what was expected, the next step."""
        ...

    def files(self) -> list[Path]:
        """Files that decide about its values and are not part of its params; hashed into a run's fingerprint."""
        ...

    def describe(self) -> str:
        """The reward in words, for a page, the middle of a sentence."""
        ...

    def open(self, cache: Path | None) -> Scorer:
        """Load what it needs.

        Args:
            cache: Folder in which what was paid for is kept; None keeps nothing.

        Returns:
            A function that gives one number per answer, in their order.
        """
        ...
