"""Conversations as tokens and labels: the one place that says which tokens carry loss.

Setup counts with it, so whoever trains on its tables trains on what was counted. Whether a
chat template takes a row at all says `tasks.language_models.rendering.refusal_of(conversation, template)`, from the
template's text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track

from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = -100
ENCODED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("full_length", pa.int64(), nullable=False),
    ]
)
_BATCH = 256


def encode_examples(examples: pa.Table, tokenizer: Any, template: str | None, max_tokens: int) -> pa.Table:
    """Render and tokenize conversations; the assistant's turns, their end included, are the labels.

    Args:
        examples: Rows of the schema `EXAMPLES`.
        tokenizer: A fast tokenizer.
        template: Chat template that marks the answers; None takes the tokenizer's own.
        max_tokens: Longer conversations lose their tail.

    Returns:
        Rows of `ENCODED` in the same order: ``labels`` is the token where it carries loss and -100
        elsewhere, ``full_length`` the number of tokens before the cut. Rows whose labels are all -100
        are kept, so that the caller decides.

    Raises:
        PipelineError: The chat template refuses a conversation.
    """
    starts = range(0, examples.num_rows, _BATCH)
    progress = track(starts, "tokenizing", console=Console(stderr=True), transient=True)
    encoded = [
        _encode_batch(examples.slice(start, _BATCH), tokenizer, template, max_tokens)
        for start in (progress if len(starts) > 1 else starts)
    ]
    return pa.concat_tables(encoded) if encoded else ENCODED.empty_table()


def _encode_batch(examples: pa.Table, tokenizer: Any, template: str | None, max_tokens: int) -> pa.Table:
    """Rows of `ENCODED` for a few conversations, so that Python's lists of tokens live no longer than a batch."""
    rows = _tokenize(examples["messages"].to_pylist(), examples["id"].to_pylist(), tokenizer, template)
    tokens = [tokens[:max_tokens] for tokens, _ in rows]
    marks = [marks[:max_tokens] for _, marks in rows]
    ends = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(tokens), np.int32, count=ends[-1])
    supervised = np.fromiter(chain.from_iterable(marks), np.bool_, count=ends[-1])
    labels = np.where(supervised, flat, np.int32(IGNORED))
    lengths = np.array([len(tokens) for tokens, _ in rows], np.int64)
    return pa.Table.from_arrays(
        [examples["id"], _lists(ends, flat), _lists(ends, labels), _array(lengths)], schema=ENCODED
    )


def _array(values: NDArray[Any]) -> pa.Array:
    """An Arrow array over NumPy's memory; `pyarrow.array` would import pandas to look at what it is given."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _lists(ends: NDArray[np.int32], values: NDArray[np.int32]) -> pa.ListArray:
    """Rows of int32 lists; row ``i`` is ``values[ends[i] : ends[i + 1]]``."""
    return pa.ListArray.from_arrays(_array(ends), _array(values))


def _tokenize(
    batch: Sequence[Sequence[dict[str, str]]], ids: Sequence[str], tokenizer: Any, template: str | None
) -> list[tuple[list[int], list[int]]]:
    from jinja2.exceptions import TemplateError

    options: dict[str, Any] = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    try:
        output = tokenizer.apply_chat_template(list(batch), chat_template=template, **options)
    except TemplateError as error:
        for name, conversation in zip(ids, batch, strict=True):
            try:
                tokenizer.apply_chat_template(list(conversation), chat_template=template, tokenize=False)
            except TemplateError:
                turns = ", ".join(turn["role"] for turn in conversation)
                raise PipelineError(
                    f'example {name} ({turns}): the chat template refuses it ("{error}"); drop such rows in '
                    "data_preparation or set model_initialisation.chat_template: chatml"
                ) from error
        raise
    return list(zip(output["input_ids"], output["assistant_masks"], strict=True))
