"""A model whose rows all begin with trained vectors (prefix, prompt and P-tuning), as batches take it.

Whatever the vectors are, keys and values of a prefix or embeddings of virtual tokens, to the tokens that follow they
are keys and values of the first positions. They are computed once, and every row starts with them in its cache.
"""

from __future__ import annotations

from typing import Any


class PrefixedModel:
    """The base below PEFT's wrapper, with the keys and values that every row begins with.

    Args:
        wrapped: PEFT's model in evaluation mode, of a method that puts vectors before the rows.
    """

    def __init__(self, wrapped: Any) -> None:
        import torch
        from transformers import DynamicCache

        self._base = wrapped.get_base_model()
        self.config, self.device, self.dtype = self._base.config, self._base.device, self._base.dtype
        self.generation_config = self._base.generation_config
        with torch.inference_mode():
            vectors = wrapped.get_prompt(batch_size=1)
            if isinstance(vectors, torch.Tensor):
                cache: Any = DynamicCache()
                self._base(inputs_embeds=vectors.to(self.dtype), past_key_values=cache, use_cache=True)
            else:
                cache = vectors
        self.prefix = [(layer.keys.to(self.dtype), layer.values.to(self.dtype)) for layer in cache.layers]

    def __call__(self, **inputs: Any) -> Any:
        """One forward pass of the base; the cache begins with the prefix."""
        return self._base(**inputs)


def begin_cache(model: Any, rows: int) -> tuple[Any, int]:
    """An empty cache, or one with the model's prefix for each row, and its length.

    Args:
        model: A model, prefixed or not.
        rows: Of the batch.
    """
    from transformers.cache_utils import DynamicCache

    cache, prefix = DynamicCache(), getattr(model, "prefix", None) or []
    for number, (keys, values) in enumerate(prefix):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
    return cache, prefix[0][0].shape[2] if prefix else 0
