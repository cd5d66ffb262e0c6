"""What a run has itself, for suites that ask about it: its held-out items and its training rows."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question
    from tasks.evaluation.items import Item


@dataclass(frozen=True)
class RunData:
    """Data of the run.

    Attributes:
        items: The held-out items.
        train: Training split, `Example` rows; None where there is none, as for models from elsewhere.
        extra: The kept columns, as data preparation writes them.
    """

    items: Sequence[Item] = field(default=(), repr=False)
    train: Path | None = None
    extra: Path | None = None

    def need_items(self, user: str) -> list[Item]:
        """The held-out items that have a prompt.

        Raises:
            PipelineError: There are none.
        """
        found = [item for item in self.items if item.prompt]
        if not found:
            raise PipelineError(f"{user}: the run has no held-out prompts; give it conversations, or take {user} out")
        return found

    def need_rows(self, user: str, count: int) -> list[Item]:
        """Training rows with a prompt, as items, selected by a hash of their content.

        Args:
            user: What needs them, named in errors.
            count: Maximum number of rows.

        Raises:
            PipelineError: There is no training split, or it has no such row.
        """
        from tasks.contracts.tables import read_examples
        from tasks.evaluation.items import make_item

        if self.train is None or not self.train.is_file():
            raise PipelineError(f"{user}: it reads the training rows, and there are none here; take {user} out")
        items = [make_item(row) for row in read_examples(self.train).to_pylist() if row["messages"]]
        found = [item for item in items if item.prompt and item.reference.strip()]
        if not found:
            raise PipelineError(f"{user}: {self.train} has no conversation with an answer; take {user} out")
        return sorted(found, key=lambda item: (hashlib.sha256(f"{user}:{item.id}".encode()).digest(), item.id))[:count]


class AsksAboutRun(ABC):
    """A suite that asks about the run's own data."""

    @abstractmethod
    def read_run(self, run: RunData) -> list[Question]:
        """The questions, as `tasks.evaluation.suites.suite.Suite.read`."""

    def read(self) -> list[Question]:
        """The questions that need no data of a run."""
        return self.read_run(RunData())
