"""Count the tokens of the splits with the real tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.long_rows import LongRows
from tasks.training.mixture import Mixture, add_tasks, count_tasks, drawing
from tasks.training.objectives import AnyObjective
from tasks.training.objectives.data import RowKind, Tokenization, count_kinds, split_tables
from tasks.training.objectives.supervised import Supervised
from tasks.training.rows import ANSWER_CUT, TOO_LONG

DEFAULT = Supervised()


@dataclass(frozen=True)
class Counts:
    """Tokens of the training split; rows without a supervised token do not train and are left out.

    Attributes:
        rows: Rows of the training split: conversations, or pairs of answers, as the objective takes them.
        examples: Items that train: rows that carry supervised tokens, or parts of those that are split.
        cut: Rows longer than ``max_tokens`` that train, cut or split.
        full_lengths: Tokens of each row before the cut, every row.
        lengths: Tokens of each item, in training order.
        tokens: Their sum.
        supervised_tokens: Those that carry loss.
        validation_examples: Rows of the validation split with supervised tokens.
        dropped: Reason to number of conversations that do not train.
        tasks: Task to its rows, where tasks are mixed.
        first_epoch: Lengths of what the first epoch draws, where tasks are mixed.
        kinds: Rows of the training split that other objectives could take, by kind; empty where they were not counted.
    """

    rows: int
    examples: int
    cut: int
    full_lengths: Sequence[int]
    lengths: Sequence[int]
    tokens: int
    supervised_tokens: int
    validation_examples: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[RowKind, int] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    first_epoch: Sequence[int] | None = None

    @property
    def longer(self) -> int:
        """Conversations longer than a row, cut, split or left out."""
        return self.cut + sum(self.dropped.get(reason, 0) for reason in (ANSWER_CUT, TOO_LONG))

    @property
    def without_loss(self) -> int:
        """Conversations that do not train."""
        return sum(self.dropped.values())

    @property
    def figures(self) -> dict[str, float | int]:
        return {
            "examples": self.examples,
            "rows_without_loss": self.without_loss,
            "cut": self.cut,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised_tokens,
        }


def count_tokens(
    train: pa.Table,
    validation: pa.Table,
    initial: Path,
    max_tokens: int,
    long_rows: LongRows = "truncate_right",
    objective: AnyObjective = DEFAULT,
    answers: pa.Table | None = None,
    mixture: Mixture | None = None,
    seed: int = 0,
) -> Counts:
    """Tokenize both splits and count what fine-tuning will train on.

    Args:
        train: Schema `EXAMPLES`.
        validation: The same.
        initial: Folder written by model initialisation.
        max_tokens: Length of a row.
        long_rows: What becomes of longer conversations.
        objective: Says what trains of them.
        answers: Schema `ANSWER_SETS`, of all splits; None: there are none.
        mixture: How often rows of each task are drawn; None: nothing is mixed.
        seed: Of the order.
    """
    how = Tokenization(load_tokenizer(initial), max_tokens, long_rows)
    tables = split_tables(train, answers, "train")
    kept = objective.tokenize(tables, how)
    watched = objective.tokenize(split_tables(validation, answers, "validation"), how)
    mixed = add_tasks(kept, train, mixture)
    tasks = {} if mixed.tasks is None else count_tasks(mixed.tasks, mixed.task_names)
    draw = None if mixture is None or mixture.problems(tasks) else drawing(mixed, mixture, seed)
    return Counts(
        rows=len(kept.full_lengths),
        examples=len(kept),
        cut=kept.cut,
        full_lengths=kept.full_lengths.tolist(),
        lengths=kept.lengths.tolist(),
        tokens=int(kept.offsets[-1]),
        supervised_tokens=kept.supervised,
        validation_examples=len(watched),
        dropped=kept.dropped,
        kinds=count_kinds(tables),
        tasks=tasks,
        first_epoch=None if draw is None else kept.lengths[draw(0)].tolist(),
    )
