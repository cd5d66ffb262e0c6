"""Count the tokens of the splits with the real tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.model_folder import load_tokenizer


@dataclass(frozen=True)
class Counts:
    """Tokens of the training split; rows without a supervised token do not train and are left out.

    Attributes:
        rows: Conversations of the training split.
        examples: Those that carry supervised tokens after the cut to ``max_tokens``.
        cut: Conversations longer than ``max_tokens``.
        full_lengths: Tokens of each conversation before the cut, every row.
        lengths: Tokens of each example after the cut, in training order.
        tokens: Their sum.
        supervised_tokens: Those that carry loss.
        validation_examples: Conversations of the validation split with supervised tokens.
    """

    rows: int
    examples: int
    cut: int
    full_lengths: Sequence[int]
    lengths: Sequence[int]
    tokens: int
    supervised_tokens: int
    validation_examples: int

    @property
    def figures(self) -> dict[str, float | int]:
        return {
            "examples": self.examples,
            "rows_without_loss": self.rows - self.examples,
            "cut": self.cut,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised_tokens,
        }


def count_tokens(train: pa.Table, validation: pa.Table, initial: Path, max_tokens: int) -> Counts:
    """Tokenize both splits and count.

    Args:
        train: Schema `EXAMPLES`.
        validation: The same.
        initial: Folder written by model initialisation.
        max_tokens: Length a conversation is cut to.
    """
    tokenizer = load_tokenizer(initial)
    lengths, supervised, full = _lengths(encode_examples(train, tokenizer, max_tokens))
    _, validated, _ = _lengths(encode_examples(validation, tokenizer, max_tokens))
    used = [n for n, marked in zip(lengths, supervised, strict=True) if marked]
    return Counts(
        rows=train.num_rows,
        examples=len(used),
        cut=sum(n > max_tokens for n in full),
        full_lengths=full,
        lengths=used,
        tokens=sum(used),
        supervised_tokens=sum(supervised),
        validation_examples=sum(n > 0 for n in validated),
    )


def _lengths(encoded: pa.Table) -> tuple[list[int], list[int], list[int]]:
    """Tokens after the cut, supervised ones of them, tokens before the cut; row by row.

    The first token of a row is never predicted, so a label there carries no loss.
    """
    labels = encoded["labels"].to_pylist()
    supervised = [sum(label != IGNORED for label in row[1:]) for row in labels]
    return [len(row) for row in labels], supervised, encoded["full_length"].to_pylist()
