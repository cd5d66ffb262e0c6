"""Which tokens end an answer: the one that is trained, and those that the model was published with.

A base may end its turns with another token than its tokenizer's ``eos_token``, such as ChatML's ``<|im_end|>`` beside
``<|endoftext|>``. It learns the end that its chat template writes, so whoever generates must obey that one too.
"""

from __future__ import annotations

from typing import Any

from tasks.language_models.templates.chat import chat_of


def ends_of(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer: the chat template's, the generation config's and the tokenizer's.

    Args:
        generation_config: That of the model, or None.
        tokenizer: Its tokenizer, with a chat template.

    Raises:
        PipelineError: The chat template is missing or not usable.
    """
    return ends_of_text(generation_config, tokenizer) | chat_of(tokenizer).ends


def ends_of_text(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end plain text, without a chat template: the generation config's and the tokenizer's.

    Args:
        generation_config: That of the model, or None.
        tokenizer: Its tokenizer.
    """
    own = tokenizer.eos_token_id
    return frozenset({*_configured(generation_config), *([] if own is None else [own])})


def carry_ends(generation_config: Any, tokenizer: Any) -> bool:
    """Add the ends that a generation config lacks, after its own; says whether it lacked any.

    Raises:
        PipelineError: As `ends_of`.
    """
    configured = _configured(generation_config)
    lacking = sorted(ends_of(generation_config, tokenizer) - set(configured))
    if lacking:
        ends = [*configured, *lacking]
        generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return bool(lacking)


def _configured(generation_config: Any) -> list[int]:
    ends = getattr(generation_config, "eos_token_id", None)
    return [int(end) for end in (ends if isinstance(ends, list) else [ends]) if end is not None]
