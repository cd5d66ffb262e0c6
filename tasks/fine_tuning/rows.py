"""The splits as tokens and labels; what cannot train is left out and counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.contracts.balance import Balance
from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.model_folder import load_tokenizer, training_template

logger = logging.getLogger(__name__)

NO_ANSWER = "no token of an answer"
ANSWER_CUT = "the answer lies beyond max_tokens"


@dataclass(frozen=True)
class Rows:
    """Conversations as tokens, one after the other.

    Attributes:
        tokens: Token ids of all rows, shape (tokens,).
        labels: The token where it carries loss, -100 elsewhere; never on a row's first token.
        offsets: Where each row begins and the last one ends, shape (rows + 1,).
        dropped: Reason to number of conversations left out.
        cut: Conversations that lost their tail at ``max_tokens``.
        weights: Factor of each row's loss, shape (rows,); None where all count alike.
        classes: Number of each row's label, shape (rows,), where batches are to be stratified.
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
        """Tokens that carry loss."""
        return int((self.labels != IGNORED).sum())

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and labels of one row."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.labels[span]

    def first(self, count: int) -> Rows:
        """The first ``count`` rows."""
        offsets = self.offsets[: count + 1]
        return Rows(self.tokens[: offsets[-1]], self.labels[: offsets[-1]], offsets, self.dropped, self.cut)


@dataclass(frozen=True)
class Splits:
    """What is trained on and what the loss is watched on."""

    train: Rows
    validation: Rows

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
        max_tokens: Longer conversations lose their tail.
        validation_rows: Most conversations taken of the validation split.
        balance: Weights of the labels and how batches are filled, from data preparation.

    Raises:
        PipelineError: No row of the training split has a supervised token.
    """
    tokenizer, template = load_tokenizer(initial), training_template(initial)
    weights, classes = read_labels(train["label"].to_pylist(), balance) if balance else (None, None)
    kept = keep_supervised(encode_examples(train, tokenizer, template, max_tokens), max_tokens, weights, classes)
    if not len(kept):
        reasons = "; ".join(f"{count:,} x {reason}" for reason, count in kept.dropped.items()) or "the split is empty"
        raise PipelineError(
            f"none of {train.num_rows:,} training conversations has a token to learn from ({reasons}); raise "
            "training_setup.max_tokens or look at reports/data_preparation"
        )
    for reason, count in kept.dropped.items():
        logger.warning("%s of %s training conversations are left out: %s", count, train.num_rows, reason)
    if kept.cut:
        logger.warning("%s of %s training conversations are cut at %s tokens", kept.cut, train.num_rows, max_tokens)
    watched = encode_examples(validation.slice(0, validation_rows), tokenizer, template, max_tokens)
    return Splits(kept, keep_supervised(watched, max_tokens))


def read_labels(labels: Sequence[str | None], balance: Balance) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weight and class of each row, each None where the balance does not ask for it.

    Args:
        labels: Of the training rows; those without one weigh 1 and are a class together.
        balance: From data preparation.
    """
    weights = balance.weights
    numbers = {label: number for number, label in enumerate(balance.classes)}
    return (
        None if weights is None else np.array([weights.get(label or "", 1.0) for label in labels], dtype=np.float32),
        np.array([numbers.get(label or "", -1) for label in labels]) if balance.batches == "stratified" else None,
    )


def keep_supervised(
    encoded: pa.Table, max_tokens: int, weights: np.ndarray | None = None, classes: np.ndarray | None = None
) -> Rows:
    """Rows with at least one supervised token, and why the others were left out.

    Args:
        encoded: Schema `ENCODED`.
        max_tokens: What the rows were cut to.
        weights: Of each row.
        classes: Of each row.
    """
    column = encoded["input_ids"].combine_chunks()
    offsets = column.offsets.to_numpy().astype(np.int64)
    tokens = column.values.to_numpy().astype(np.int64)
    labels = encoded["labels"].combine_chunks().values.to_numpy().astype(np.int64)
    full = encoded["full_length"].to_numpy()
    lengths = np.diff(offsets)
    # No model predicts the first token of a row, so it never carries loss.
    labels[offsets[:-1][lengths > 0]] = IGNORED
    marks = np.concatenate([[0], np.cumsum(labels != IGNORED)])
    useful = marks[offsets[1:]] > marks[offsets[:-1]]
    long = full > max_tokens
    counts = {ANSWER_CUT: int((~useful & long).sum()), NO_ANSWER: int((~useful & ~long).sum())}
    chosen = np.repeat(useful, lengths)
    return Rows(
        tokens=tokens[chosen],
        labels=labels[chosen],
        offsets=np.concatenate([[0], np.cumsum(lengths[useful])]).astype(np.int64),
        dropped={reason: count for reason, count in counts.items() if count},
        cut=int((useful & long).sum()),
        weights=None if weights is None else weights[useful],
        classes=None if classes is None else classes[useful],
    )
