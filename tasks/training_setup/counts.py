"""Count the tokens of the splits with the real tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tasks.language_models.encoding import encode_examples
from tasks.language_models.long_rows import LongRows
from tasks.language_models.model_folder import load_tokenizer
from tasks.training.rows import ANSWER_CUT, TOO_LONG, keep_supervised


@dataclass(frozen=True)
class Counts:
    """Tokens of the training split; rows without a supervised token do not train and are left out.

    Attributes:
        rows: Conversations of the training split.
        examples: Rows that carry supervised tokens: conversations, or parts of those that are split.
        cut: Conversations longer than ``max_tokens`` that train, cut or split.
        full_lengths: Tokens of each conversation before the cut, every row.
        lengths: Tokens of each example, in training order.
        tokens: Their sum.
        supervised_tokens: Those that carry loss.
        validation_examples: Rows of the validation split with supervised tokens.
        dropped: Reason to number of conversations that do not train.
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
    train: pa.Table, validation: pa.Table, initial: Path, max_tokens: int, long_rows: LongRows = "truncate_right"
) -> Counts:
    """Tokenize both splits and count what fine-tuning will train on.

    Args:
        train: Schema `EXAMPLES`.
        validation: The same.
        initial: Folder written by model initialisation.
        max_tokens: Length of a row.
        long_rows: What becomes of longer conversations.
    """
    tokenizer = load_tokenizer(initial)
    encoded = encode_examples(train, tokenizer, max_tokens, long_rows)
    kept = keep_supervised(encoded, max_tokens)
    watched = keep_supervised(encode_examples(validation, tokenizer, max_tokens, long_rows), max_tokens)
    full_lengths = dict(zip(encoded["place"].to_pylist(), encoded["full_length"].to_pylist(), strict=True))
    return Counts(
        rows=train.num_rows,
        examples=len(kept),
        cut=kept.cut,
        full_lengths=list(full_lengths.values()),
        lengths=kept.lengths.tolist(),
        tokens=int(kept.offsets[-1]),
        supervised_tokens=kept.supervised,
        validation_examples=len(watched),
        dropped=kept.dropped,
    )
