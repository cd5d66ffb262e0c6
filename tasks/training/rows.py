"""Tokenized items that train; those without a supervised token are dropped and counted.

An item is a conversation, or whatever else an objective trains on, such as a pair of answers: one sequence of tokens or
several, the same number for every item. Training setup counts with it what fine-tuning trains on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

from tasks.language_models.encoding import IGNORED
from tasks.training.answer_costs import AnswerCosts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

REFUSED = "the chat template refuses it"
NO_ANSWER = "no supervised token"
ANSWER_CUT = "the answer is beyond max_tokens"
TOO_LONG = "longer than max_tokens"


def _empty() -> np.ndarray:
    import numpy as np

    return np.empty(0, np.int64)


@dataclass(frozen=True)
class TokenizedRows:
    """Tokenized items, concatenated.

    Attributes:
        tokens: Token ids of all sequences, shape (tokens,).
        labels: The token where it is supervised, -100 elsewhere and on the first token of each sequence.
        offsets: Start of each sequence and end of the last one, shape (sequences + 1,).
        dropped: Reason to number of rows dropped.
        cut: Rows longer than ``max_tokens`` that train, cut or split.
        ids: Id of each item's row; None where none are known.
        weights: Loss weight of each item, shape (items,); None where all are 1.
        classes: Class number of each item, shape (items,), where batches are stratified.
        tasks: Number of each item's task in `task_names`, shape (items,), where they are mixed.
        task_names: Names of the tasks.
        later: Whether each item goes on with the conversation of the one before, shape (items,); None where none was
            split.
        costs: What wrong tokens cost that lead to another label, where the loss needs it.
        full_lengths: Tokens of each row before the cut, those of rows that were dropped too; for the plan.
        per_item: Sequences of an item.
        columns: Name to numbers of each sequence, shape (sequences, ...), that a batch has beside its tokens.
        notes: What an objective knows of each item beside its tokens, as text.
    """

    tokens: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    dropped: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    ids: Sequence[str] | None = None
    weights: np.ndarray | None = None
    classes: np.ndarray | None = None
    tasks: np.ndarray | None = None
    task_names: tuple[str, ...] = ()
    later: np.ndarray | None = None
    costs: AnswerCosts | None = None
    full_lengths: np.ndarray = field(default_factory=_empty)
    per_item: int = 1
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] | None = None

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.per_item

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each item, all its sequences together."""
        import numpy as np

        return np.diff(self.offsets[:: self.per_item])

    @property
    def names_sequences(self) -> bool:
        """Whether a batch says which token is of which sequence."""
        return self.per_item > 1 or bool(self.columns)

    @property
    def supervised(self) -> int:
        """Number of supervised tokens."""
        return int((self.labels != IGNORED).sum())

    def find_unsupervised(self) -> np.ndarray:
        """Indices of sequences without a supervised token, which would count as learned without a loss."""
        import numpy as np

        before = np.concatenate([[0], np.cumsum(self.labels != IGNORED)])
        return np.flatnonzero(before[self.offsets[1:]] == before[self.offsets[:-1]])

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and labels of one sequence."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.labels[span]

    def item(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and labels of one item, all its sequences one after another."""
        span = slice(self.offsets[index * self.per_item], self.offsets[(index + 1) * self.per_item])
        return self.tokens[span], self.labels[span]


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
    import numpy as np

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
    conversations = rows_of[useful]
    later = np.diff(conversations, prepend=-1) == 0
    return TokenizedRows(
        tokens=tokens[kept_tokens],
        labels=labels[kept_tokens],
        offsets=np.concatenate([[0], np.cumsum(lengths[useful])]).astype(np.int64),
        dropped={reason: count for reason, count in counts.items() if count},
        cut=int((trains & long).sum()),
        ids=list(compress(encoded["id"].to_pylist(), useful.tolist())),
        weights=None if weights is None else weights[places[conversations]],
        classes=None if classes is None else classes[places[conversations]],
        later=later if later.any() else None,
        full_lengths=full_lengths[firsts],
    )


def _numbers(array: pa.Array) -> np.ndarray:
    """An Arrow array of integers without gaps as NumPy's; `to_numpy` would import pandas."""
    import numpy as np

    kind = np.dtype(str(array.type))
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, count=len(array), offset=array.offset * kind.itemsize)


def join_rows(one: TokenizedRows, other: TokenizedRows) -> TokenizedRows:
    """Rows of two kinds as one; both have weights and classes, or neither."""
    import numpy as np

    def both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
        return None if first is None or second is None else np.concatenate([first, second])

    return TokenizedRows(
        tokens=np.concatenate([one.tokens, other.tokens]),
        labels=np.concatenate([one.labels, other.labels]),
        offsets=np.concatenate([one.offsets, one.offsets[-1] + other.offsets[1:]]),
        dropped={**one.dropped, **other.dropped},
        cut=one.cut + other.cut,
        ids=[*(one.ids or ()), *(other.ids or ())],
        weights=both(one.weights, other.weights),
        classes=both(one.classes, other.classes),
        full_lengths=np.concatenate([one.full_lengths, other.full_lengths]),
    )
