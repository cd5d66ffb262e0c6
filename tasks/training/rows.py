"""Tokenized conversations that train; those without a supervised token are dropped and counted.

Training setup counts with it what fine-tuning trains on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import pyarrow as pa

from tasks.language_models.encoding import IGNORED
from tasks.training.answer_costs import AnswerCosts

REFUSED = "the chat template refuses it"
NO_ANSWER = "no supervised token"
ANSWER_CUT = "the answer is beyond max_tokens"
TOO_LONG = "longer than max_tokens"


@dataclass(frozen=True)
class TokenizedRows:
    """Tokenized conversations, concatenated.

    Attributes:
        tokens: Token ids of all rows, shape (tokens,).
        labels: The token where it is supervised, -100 elsewhere and on the first token of each row.
        offsets: Start of each row and end of the last one, shape (rows + 1,).
        dropped: Reason to number of conversations dropped.
        cut: Conversations longer than ``max_tokens`` that train, cut or split.
        ids: Id of each row's conversation; None where none are known.
        weights: Loss weight of each row, shape (rows,); None where all are 1.
        classes: Class number of each row, shape (rows,), where batches are stratified.
        costs: What wrong tokens cost that lead to another label, where the loss needs it.
    """

    tokens: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    dropped: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    ids: Sequence[str] | None = None
    weights: np.ndarray | None = None
    classes: np.ndarray | None = None
    costs: AnswerCosts | None = None

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

    def find_unsupervised(self) -> np.ndarray:
        """Indices of rows without a supervised token, which would count as learned without a loss."""
        before = np.concatenate([[0], np.cumsum(self.labels != IGNORED)])
        return np.flatnonzero(before[self.offsets[1:]] == before[self.offsets[:-1]])

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and labels of one row."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.labels[span]

    def first(self, count: int) -> TokenizedRows:
        """The first ``count`` rows."""
        offsets = self.offsets[: count + 1]
        return TokenizedRows(self.tokens[: offsets[-1]], self.labels[: offsets[-1]], offsets, self.dropped, self.cut)


def keep_supervised(
    encoded: pa.Table, max_tokens: int, weights: np.ndarray | None = None, classes: np.ndarray | None = None
) -> TokenizedRows:
    """Rows with at least one supervised token, and why the others were dropped.

    Args:
        encoded: Schema `ENCODED`.
        max_tokens: Length of a row; longer conversations were cut, split or left out.
        weights: Weight of each conversation.
        classes: Class of each conversation.
    """
    column = encoded["input_ids"].combine_chunks()
    offsets = _numbers(column.offsets).astype(np.int64)
    tokens = _numbers(column.values).astype(np.int64)
    labels = _numbers(encoded["labels"].combine_chunks().values).astype(np.int64)
    full_lengths = _numbers(encoded["full_length"].combine_chunks())
    lengths = np.diff(offsets)
    # No model predicts the first token of a row, so it is never supervised.
    labels[offsets[:-1][lengths > 0]] = IGNORED
    supervised_before = np.concatenate([[0], np.cumsum(labels != IGNORED)])
    useful = supervised_before[offsets[1:]] > supervised_before[offsets[:-1]]
    # A split conversation has several rows; each is counted once, by its first.
    places, firsts, rows_of = np.unique(
        _numbers(encoded["place"].combine_chunks()), return_index=True, return_inverse=True
    )
    trains = np.zeros(len(places), dtype=bool)
    trains[rows_of[useful]] = True
    long = full_lengths[firsts] > max_tokens
    refused = np.array(encoded["refused"].is_valid().to_pylist(), dtype=bool)[firsts]
    left_out = long & (lengths[firsts] == 0)
    reasons = Counter(f"{REFUSED} ({reason})" for reason in encoded["refused"].to_pylist() if reason is not None)
    counts = {
        TOO_LONG: int(left_out.sum()),
        ANSWER_CUT: int((~trains & long & ~left_out).sum()),
        NO_ANSWER: int((~trains & ~long & ~refused).sum()),
        **dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    }
    kept_tokens = np.repeat(useful, lengths)
    return TokenizedRows(
        tokens=tokens[kept_tokens],
        labels=labels[kept_tokens],
        offsets=np.concatenate([[0], np.cumsum(lengths[useful])]).astype(np.int64),
        dropped={reason: count for reason, count in counts.items() if count},
        cut=int((trains & long).sum()),
        ids=list(compress(encoded["id"].to_pylist(), useful.tolist())),
        weights=None if weights is None else weights[places[rows_of[useful]]],
        classes=None if classes is None else classes[places[rows_of[useful]]],
    )


def _numbers(array: pa.Array) -> np.ndarray:
    """An Arrow array of integers without gaps as NumPy's; `to_numpy` would import pandas."""
    kind = np.dtype(str(array.type))
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, count=len(array), offset=array.offset * kind.itemsize)
