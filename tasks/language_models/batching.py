"""Whether a model can be served in batches, as far as its modules and configuration tell without weights."""

from __future__ import annotations

import inspect
from typing import Any

from tasks.contracts.errors import PipelineError

_UNLIMITED = 1 << 31
_NEEDED = ("position_ids", "past_key_values", "logits_to_keep")
_LAYERS = {"full_attention", "sliding_attention"}


def why_not_batched(model: Any) -> str:
    """Why requests of different lengths cannot be decoded together with one key-value cache; empty when they can.

    Args:
        model: A causal language model, on the meta device too.
    """
    parameters = inspect.signature(model.forward).parameters
    missing = [f"its forward pass takes no {name}" for name in _NEEDED if name not in parameters]
    layers = sorted(set(getattr(model.config.get_text_config(), "layer_types", None) or []) - _LAYERS)
    reasons = [*missing, *(f"layers of the kind {layer}" for layer in layers)]
    if model.config.is_encoder_decoder:
        reasons.append("an encoder-decoder")
    return ", ".join(reasons)


def find_context(config: Any, tokenizer: Any) -> int:
    """Maximum tokens that a model and its tokenizer support.

    Raises:
        PipelineError: Neither says.
    """
    from tasks.language_models.generation import context_length

    limits = [context_length(config), tokenizer.model_max_length]
    known = [int(limit) for limit in limits if limit and limit < _UNLIMITED]
    if not known:
        raise PipelineError(
            f"{tokenizer.name_or_path}: no context length; set max_position_embeddings in the model's config.json"
        )
    return min(known)
