"""A document as tokens: text without a chat template, every token of it supervised once.

A document is tokenized whole, control tokens that it spells out as the text they are, and ends with the end-of-text
token. Nothing is dropped: a long one becomes several rows. No model predicts the first token of a row, so a row begins
with one that carries no loss: before a document what the tokenizer begins texts with, or else the end-of-text token,
and within a document the token before the row.

Example: tokens 5 to 9 in rows of 4, with 0 as the end of text (brackets: without loss):
``(0) 5 6 7``, ``(7) 8 9 0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contracts.errors import PipelineError


def is_document(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a conversation is plain text: a single turn, of the assistant."""
    return len(turns) == 1 and turns[0]["role"] == "assistant"


def end_of_text(tokenizer: Any) -> int:
    """Id of the token that ends a document.

    Raises:
        PipelineError: The tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise PipelineError(
            "the base's tokenizer has no end-of-text token (eos_token), which documents end with; set it in the base's "
            "tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def document_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Each document between the token before it, which is only context, and the end of text.

    Raises:
        PipelineError: The tokenizer has no end-of-text token.
    """
    end = end_of_text(tokenizer)
    start = end if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
    tokens = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids if texts else []
    return [[start, *ids, end] for ids in tokens]


def cut_row(tokens: Sequence[int], size: int) -> list[list[int]]:
    """Rows of at most ``size`` tokens, each but the first after the last token of the one before it.

    Args:
        tokens: Two or more, the first of which carries no loss.
        size: Two or more.
    """
    return [list(tokens[start : start + size]) for start in range(0, len(tokens) - 1, size - 1)]
