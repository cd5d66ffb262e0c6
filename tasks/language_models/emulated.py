"""Emulated fine-tuning (Mitchell et al. 2023, arXiv:2310.12962): a large base, tuned at decoding by a small one.

    log p = log p_large + strength * (log p_small_tuned - log p_small) + constant

What tuning changed in a small model is added to the large base, which itself is never trained ("up-scaling"). Good
where the large base fits for inference but not for training. The three must have the same vocabulary.

Example, strength 1 and three tokens: a large base of (0.5, 0.3, 0.2), a small one of (0.4, 0.4, 0.2) that tuning made
(0.2, 0.6, 0.2) give (0.5 * 0.5, 0.3 * 1.5, 0.2) / 0.9 = (0.278, 0.5, 0.222).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from tasks.language_models.folder.vocabulary import width_of
from tasks.language_models.generation import context_length


class EmulatedModel(torch.nn.Module):
    """Three causal language models that answer as one, in batches and with one cache.

    Its cache has the layers of the large base, of the tuned small model and of the small one, in this order.

    Args:
        large: The base that is not tuned.
        tuned: The small model after tuning.
        small: The same before.
        strength: Factor of the difference; 0 is the large base alone.
    """

    _is_stateful = False

    def __init__(self, large: Any, tuned: Any, small: Any, strength: float) -> None:
        super().__init__()
        models: list[Any] = [large, tuned, small]
        self.models = torch.nn.ModuleList(models)
        self.large, self.strength = large, strength
        self.config, self.generation_config = copy.deepcopy(large.config), tuned.generation_config
        contexts = [found for model in models if (found := context_length(model.config)) is not None]
        if contexts:  # no longer than any of them reads
            self.config.get_text_config().max_position_embeddings = min(contexts)
        self.width = min(width_of(model) for model in models)
        self._layers = [int(model.config.get_text_config().num_hidden_layers) for model in models]

    @property
    def device(self) -> torch.device:
        device: torch.device = self.large.device
        return device

    def _supports_default_dynamic_cache(self) -> bool:
        return all(model._supports_default_dynamic_cache() for model in self.models)  # type: ignore[operator]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
    ) -> CausalLMOutputWithPast:
        """Logits up to a constant per position, (rows, positions, vocabulary), fp32; arguments as of its models."""
        caches: list[Any] = [None, None, None]
        is_new = past_key_values is not None and past_key_values.get_seq_length() == 0
        if past_key_values is not None:
            starts = [0, self._layers[0], sum(self._layers[:2])]
            caches = [
                DynamicCache() if is_new else Cache(layers=past_key_values.layers[start : start + count])
                for start, count in zip(starts, self._layers, strict=True)
            ]
        large, tuned, small = (
            model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=use_cache,
                logits_to_keep=logits_to_keep,
            )
            .logits[..., : self.width]
            .float()
            for model, cache in zip(self.models, caches, strict=True)
        )
        if past_key_values is not None and is_new:
            past_key_values.layers = [layer for cache in caches for layer in cache.layers]
        logits = large + self.strength * (tuned - small)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)
