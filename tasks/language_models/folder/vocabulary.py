"""Whether two models mean the same text by the same token ids, which combining their probabilities needs."""

from __future__ import annotations

from typing import Any

_SHOWN = 3


def find_vocabulary_differences(tokenizer: Any, other: Any) -> str:
    """What differs between two vocabularies, as the middle of a sentence; empty where none does.

    Special tokens count as tokens; chat templates, and what a tokenizer adds around a text, do not.

    Args:
        tokenizer: The one to hold against.
        other: The other one.

    Example:
        "512 tokens instead of 8192; 7680 are missing, such as 'Ġorder' (id 600)"
    """
    own, found = tokenizer.get_vocab(), other.get_vocab()
    if own == found:
        return ""
    parts = [] if len(own) == len(found) else [f"{len(found):,} tokens instead of {len(own):,}"]
    moved = sorted((own[token], token) for token in own.keys() & found.keys() if own[token] != found[token])
    for words, tokens in (
        ("missing", sorted((own[token], token) for token in own.keys() - found.keys())),
        ("its own", sorted((found[token], token) for token in found.keys() - own.keys())),
        ("under another id", moved),
    ):
        if tokens:
            shown = ", ".join(f"{token!r} (id {number})" for number, token in tokens[:_SHOWN])
            parts.append(f"{len(tokens):,} {'is' if len(tokens) == 1 else 'are'} {words}, such as {shown}")
    return "; ".join(parts)


def width_of(model: Any) -> int:
    """Rows of a model's output layer; those beyond the tokenizer's vocabulary, if any, are padding."""
    return int(model.config.get_text_config().vocab_size)
