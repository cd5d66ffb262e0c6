"""Conversations as tokens and labels: the one place that says which tokens carry loss.

Setup counts with it, so whoever trains on its tables trains on what was counted. Whether a
chat template takes a row at all says `tasks.language_models.templates.rendering.refusal_of(conversation, template)`,
from the template's text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from tasks.contracts.progress import track
from tasks.language_models.documents import document_ids, is_document
from tasks.language_models.long_rows import LongRows, Row, shorten
from tasks.language_models.templates.chat import Chat, Written, chat_of
from tasks.language_models.templates.rendering import TemplateRefusal, Turns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


IGNORED = -100
_BATCH = 256


def encode_examples(
    examples: pa.Table, tokenizer: Any, max_tokens: int, long_rows: LongRows = "truncate_right"
) -> pa.Table:
    """Write and tokenize conversations; the assistant's turns, their end included, are the labels.

    Args:
        examples: Rows of the schema `EXAMPLES`; answers named in a column `UNTRAINED` carry no loss.
        tokenizer: A fast tokenizer with a chat template.
        max_tokens: Length of a row.
        long_rows: What becomes of longer conversations.

    Returns:
        Rows of `ENCODED` in the same order, several for a conversation that is split: ``labels`` is the token where
        it carries loss and -100 elsewhere, ``full_length`` the number of tokens of the conversation before the cut,
        ``place`` its number among the examples. Rows whose labels are all -100 are kept, so that the caller decides.
        A conversation that the chat template refuses has no tokens, and the template's reason in ``refused``: one row
        never stops a stage.

    Raises:
        PipelineError: The tokenizer has no usable chat template.
    """
    import pyarrow as pa

    from tasks.contracts.records import ENCODED

    chat = chat_of(tokenizer)
    starts = range(0, examples.num_rows, _BATCH)
    encoded = [
        _encode_batch(examples.slice(start, _BATCH), chat, max_tokens, long_rows, start)
        for start in track(starts, "tokenizing")
    ]
    return pa.concat_tables(encoded) if encoded else ENCODED.empty_table()


def encode_prompt(tokenizer: Any, prompt: Turns) -> list[int]:
    """Token ids of a conversation up to where the model answers, by the model's own chat template.

    A single turn of the assistant is the beginning of a document: its tokens, without the template.

    Raises:
        PipelineError: The tokenizer has no chat template, or its template refuses the conversation.
    """
    if is_document(prompt):
        return document_ids(tokenizer, [str(prompt[0]["content"])])[0][:-1]
    return chat_of(tokenizer).prompt_ids(prompt)


def encode_reference(tokenizer: Any, prompt: Turns, reference: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, as `encode_prompt` gives them, and of its reference answer with the end of turn.

    Raises:
        PipelineError: As `encode_prompt`.
    """
    return chat_of(tokenizer).answer_ids([*prompt, {"role": "assistant", "content": reference}])


def encode_document(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """The token before a document, which is only context, and the document's with the end of text.

    Raises:
        PipelineError: The tokenizer has no end-of-text token.
    """
    (ids,) = document_ids(tokenizer, [text])
    return ids[:1], ids[1:]


def _encode_batch(examples: pa.Table, chat: Chat, max_tokens: int, long_rows: LongRows, first: int) -> pa.Table:
    """Rows of `ENCODED` for a few conversations, so that Python's lists of tokens live no longer than a batch."""
    import numpy as np
    import pyarrow as pa

    from tasks.contracts.records import ENCODED, UNTRAINED

    has_marks = UNTRAINED.name in examples.column_names
    untrained = examples[UNTRAINED.name].to_pylist() if has_marks else [None] * examples.num_rows
    conversations = examples["messages"].to_pylist()
    rows, reasons = _tokenize(conversations, untrained, chat)
    kept: list[Row] = []
    places: list[int] = []
    for place, row in enumerate(rows):
        parts = [row]
        if len(row) > max_tokens:
            parts = shorten(conversations[place], untrained[place] or (), row, chat, max_tokens, long_rows)
        kept += parts
        places += [place] * len(parts)
    ends = np.cumsum([0, *map(len, kept)], dtype=np.int32)
    pairs = np.fromiter(chain.from_iterable(chain.from_iterable(kept)), np.int32, count=2 * ends[-1]).reshape(-1, 2)
    flat = np.ascontiguousarray(pairs[:, 0])
    labels = np.where(pairs[:, 1] != 0, flat, np.int32(IGNORED))
    lengths = np.array([len(rows[place]) for place in places], np.int64)
    told = [reasons[place] for place in places]
    taken = _array(np.array(places, np.int64))
    ids = examples["id"] if len(places) == examples.num_rows else examples["id"].take(taken)
    numbers = _array(np.array(places, np.int64) + first)
    return pa.Table.from_arrays(
        [ids, _lists(ends, flat), _lists(ends, labels), _array(lengths), _texts(told), numbers],
        schema=ENCODED,
    )


def _array(values: NDArray[Any]) -> pa.Array:
    """An Arrow array over NumPy's memory; `pyarrow.array` would import pandas to look at what it is given."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _texts(values: Sequence[str | None]) -> pa.Array:
    """An Arrow array of texts; of the usual ones, which are all absent, without `pyarrow.array`, see `_array`."""
    import pyarrow as pa

    return pa.array(values, pa.string()) if any(values) else pa.nulls(len(values), pa.string())


def _lists(ends: NDArray[np.int32], values: NDArray[np.int32]) -> pa.ListArray:
    """Rows of int32 lists; row ``i`` is ``values[ends[i] : ends[i + 1]]``."""
    import pyarrow as pa

    return pa.ListArray.from_arrays(_array(ends), _array(values))


def _tokenize(
    conversations: Sequence[Turns], untrained: Sequence[Sequence[int] | None], chat: Chat
) -> tuple[list[list[tuple[int, bool]]], list[str | None]]:
    """Tokens of each conversation, each with whether it carries loss, and why the template refuses it, if it does."""
    written: list[Written] = []
    reasons: list[str | None] = []
    for conversation, places in zip(conversations, untrained, strict=True):
        try:
            written.append(chat.write(conversation, places or ()))
            reasons.append(None)
        except TemplateRefusal as refusal:
            reasons.append(refusal.reason)
    encoded = iter(chat.encode(written))
    rows = [list(chain.from_iterable(next(encoded))) if reason is None else [] for reason in reasons]
    return rows, reasons
