"""The splits as tokens and labels; rows without a supervised token are dropped and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.contracts.balance import Balance
from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.model_folder import load_tokenizer

logger = logging.getLogger(__name__)

REFUSED = "the chat template refuses it"
NO_ANSWER = "no supervised token"
ANSWER_CUT = "the answer is beyond max_tokens"


@dataclass(frozen=True)
class TokenizedRows:
    """Tokenized conversations, concatenated.

    Attributes:
        tokens: Token ids of all rows, shape (tokens,).
        labels: The token where it is supervised, -100 elsewhere and on the first token of each row.
        offsets: Start of each row and end of the last one, shape (rows + 1,).
        dropped: Reason to number of conversations dropped.
        cut: Conversations truncated at ``max_tokens``.
        weights: Loss weight of each row, shape (rows,); None where all are 1.
        classes: Class number of each row, shape (rows,), where batches are stratified.
    """

    tokens: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    dropped: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    weights: np.ndarray | None = None
    classes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @property
    def supervised(self) -> int:
        """Number of supervised tokens."""
        return int((self.labels != IGNORED).sum())

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and labels of one row."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.labels[span]

    def first(self, count: int) -> TokenizedRows:
        """The first ``count`` rows."""
        offsets = self.offsets[: count + 1]
        return TokenizedRows(self.tokens[: offsets[-1]], self.labels[: offsets[-1]], offsets, self.dropped, self.cut)


@dataclass(frozen=True)
class Splits:
    """Training and validation rows."""

    train: TokenizedRows
    validation: TokenizedRows

    @property
    def figures(self) -> dict[str, float | int]:
        return {
            "rows": len(self.train),
            "rows_dropped": sum(self.train.dropped.values()),
            "rows_cut": self.train.cut,
            "tokens": int(self.train.offsets[-1]),
            "supervised_tokens": self.train.supervised,
            "validation_rows": len(self.validation),
        }


def tokenize_splits(
    train: pa.Table,
    validation: pa.Table,
    initial: Path,
    max_tokens: int,
    validation_rows: int,
    balance: Balance | None = None,
) -> Splits:
    """Tokenize both splits with the base's chat template.

    Args:
        train: Schema `EXAMPLES`.
        validation: The same.
        initial: Folder written by model initialisation.
        max_tokens: Longer conversations are truncated.
        validation_rows: Maximum number of validation conversations.
        balance: Weights of the labels and stratification of batches, from data preparation.

    Raises:
        PipelineError: No row of the training split has a supervised token.
    """
    tokenizer = load_tokenizer(initial)
    weights, classes = read_labels(train["label"].to_pylist(), balance) if balance else (None, None)
    kept = keep_supervised(encode_examples(train, tokenizer, max_tokens), max_tokens, weights, classes)
    if not len(kept):
        reasons = "; ".join(f"{count:,} x {reason}" for reason, count in kept.dropped.items()) or "the split is empty"
        raise PipelineError(
            f"none of {train.num_rows:,} training conversations has a supervised token ({reasons}); raise "
            "training_setup.max_tokens or see reports/data_preparation"
        )
    for reason, count in kept.dropped.items():
        logger.warning("%s of %s training conversations are dropped: %s", count, train.num_rows, reason)
    if kept.cut:
        logger.warning(
            "%s of %s training conversations are truncated to %s tokens", kept.cut, train.num_rows, max_tokens
        )
    encoded_validation = encode_examples(validation.slice(0, validation_rows), tokenizer, max_tokens)
    return Splits(kept, keep_supervised(encoded_validation, max_tokens))


def read_labels(labels: Sequence[str | None], balance: Balance) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weight and class of each row, each None where the balance does not use it.

    Args:
        labels: Labels of the training rows; rows without one have weight 1 and form a class of their own.
        balance: Weights and stratification, from data preparation.
    """
    weights = balance.weights
    numbers = {label: number for number, label in enumerate(balance.classes)}
    return (
        None if weights is None else np.array([weights.get(label or "", 1.0) for label in labels], dtype=np.float32),
        np.array([numbers.get(label or "", -1) for label in labels]) if balance.batches == "stratified" else None,
    )


def keep_supervised(
    encoded: pa.Table, max_tokens: int, weights: np.ndarray | None = None, classes: np.ndarray | None = None
) -> TokenizedRows:
    """Rows with at least one supervised token, and why the others were dropped.

    Args:
        encoded: Schema `ENCODED`.
        max_tokens: Length to which the rows were truncated.
        weights: Weight of each row.
        classes: Class of each row.
    """
    column = encoded["input_ids"].combine_chunks()
    offsets = column.offsets.to_numpy().astype(np.int64)
    tokens = column.values.to_numpy().astype(np.int64)
    labels = encoded["labels"].combine_chunks().values.to_numpy().astype(np.int64)
    full_lengths = encoded["full_length"].to_numpy()
    lengths = np.diff(offsets)
    # No model predicts the first token of a row, so it is never supervised.
    labels[offsets[:-1][lengths > 0]] = IGNORED
    supervised_before = np.concatenate([[0], np.cumsum(labels != IGNORED)])
    useful = supervised_before[offsets[1:]] > supervised_before[offsets[:-1]]
    long = full_lengths > max_tokens
    refused = encoded["refused"].is_valid().to_numpy()
    reasons = Counter(f"{REFUSED} ({reason})" for reason in encoded["refused"].to_pylist() if reason is not None)
    counts = {
        ANSWER_CUT: int((~useful & long).sum()),
        NO_ANSWER: int((~useful & ~long & ~refused).sum()),
        **dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    }
    kept_tokens = np.repeat(useful, lengths)
    return TokenizedRows(
        tokens=tokens[kept_tokens],
        labels=labels[kept_tokens],
        offsets=np.concatenate([[0], np.cumsum(lengths[useful])]).astype(np.int64),
        dropped={reason: count for reason, count in counts.items() if count},
        cut=int((useful & long).sum()),
        weights=None if weights is None else weights[useful],
        classes=None if classes is None else classes[useful],
    )
