"""Tokens of the splits without a tokenizer: from the bytes of their texts, for a plan that has to be quick.

Example: a conversation of two turns with 120 bytes of text, at 4 bytes a token and 4 tokens of template a turn, counts
as 30 + 8 + 1 = 39 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.training_setup.counts import Counts

BYTES_PER_TOKEN = 4.0  # of English text and a vocabulary of some ten thousand
TEMPLATE_TOKENS = 4  # of a turn: its role and its end
ANSWER_SHARE = 0.5  # of the tokens of a conversation, where nothing is known of its turns


def estimate_counts(
    examples: pa.Table, validation_rows: int, max_tokens: int, bytes_per_token: float, tokens: int | None = None
) -> Counts:
    """Counts of prepared rows.

    Args:
        examples: The training split, schema `EXAMPLES`.
        validation_rows: Conversations of the validation split.
        max_tokens: Length a conversation is cut to.
        bytes_per_token: UTF-8 bytes of the contents per token.
        tokens: Tokens of all conversations where they were counted before; the estimate is scaled to it.
    """
    turns = examples["messages"].combine_chunks()
    offsets = np.asarray(turns.offsets)
    contents = turns.values
    sizes = np.asarray(pc.fill_null(pc.binary_length(contents.field("content")), 0), dtype=np.float64)
    answers = np.asarray(pc.fill_null(pc.equal(contents.field("role"), "assistant"), False), dtype=bool)
    each = sizes / bytes_per_token + TEMPLATE_TOKENS
    summed = np.concatenate([[0.0], np.cumsum(each)])
    supervised = np.concatenate([[0.0], np.cumsum(np.where(answers, each, 0.0))])
    full = np.diff(summed[offsets]) + 1
    answered = np.diff(supervised[offsets])
    if tokens and full.sum():
        answered, full = answered * (tokens / full.sum()), full * (tokens / full.sum())
    return _count(full, answered, validation_rows, max_tokens)


def estimate_from_size(conversations: int, tokens: int, validation_rows: int, max_tokens: int) -> Counts:
    """Counts of conversations of which only the number and the tokens of all are known: all are of the same length.

    Args:
        conversations: Of the training split.
        tokens: Of all of them.
        validation_rows: Conversations of the validation split.
        max_tokens: Length a conversation is cut to.
    """
    full = np.full(conversations, tokens / max(conversations, 1))
    return _count(full, full * ANSWER_SHARE, validation_rows, max_tokens)


def _count(full: np.ndarray, answered: np.ndarray, validation_rows: int, max_tokens: int) -> Counts:
    lengths: Sequence[int] = np.maximum(1, np.rint(np.minimum(full, max_tokens))).astype(int).tolist()
    kept = np.minimum(1.0, max_tokens / np.maximum(full, 1.0))
    return Counts(
        rows=len(full),
        examples=len(full),
        cut=int((full > max_tokens).sum()),
        full_lengths=np.rint(full).astype(int).tolist(),
        lengths=lengths,
        tokens=sum(lengths),
        supervised_tokens=int((answered * kept).sum()),
        validation_examples=validation_rows,
    )
