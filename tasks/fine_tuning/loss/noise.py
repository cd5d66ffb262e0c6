"""NEFTune (Jain et al. 2023, arXiv:2310.05914): uniform noise on the embeddings of the tokens while training.

A conversation of L tokens with embeddings of d numbers gets noise from ``-a / sqrt(L d)`` to ``a / sqrt(L d)``, where a
is ``neftune_alpha``. L is the conversation's own length: the rows it is padded or packed with change nothing about it,
unlike in transformers, which takes the length of the row.

Good for answers in open conversation from little data; it does not help with facts. Example: ``neftune_alpha: 5`` is
noise of at most 0.0395 at 50 tokens and d = 320.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def noisy_embeddings(embeddings: Any, alpha: float | None, inputs: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Add noise to what the embeddings give within this block; without an alpha nothing.

    Args:
        embeddings: The model's input embeddings.
        alpha: Size of the noise.
        inputs: A batch as `collate` made it.
    """
    if alpha is None:
        yield
        return

    def add_noise(_: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
        scale = alpha / (conversation_lengths(inputs) * embedded.shape[-1]).sqrt()
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        return embedded + noise * scale.unsqueeze(-1).to(embedded.dtype)

    hook = embeddings.register_forward_hook(add_noise)
    try:
        yield
    finally:
        hook.remove()


def conversation_lengths(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Tokens of the conversation that each position belongs to, as floats, shape (rows, width)."""
    if "attention_mask" in inputs:
        lengths = inputs["attention_mask"].sum(1, keepdim=True).expand_as(inputs["attention_mask"])
    else:
        # Positions restart with each conversation of a packed row, and so does the padding at its end.
        positions = inputs["position_ids"]
        numbers = positions.eq(0).flatten().cumsum(0) - 1
        starts = positions.flatten().eq(0).nonzero().squeeze(1)
        ends = torch.cat([starts[1:], starts.new_tensor([positions.numel()])])
        lengths = (ends - starts)[numbers].reshape(positions.shape)
    return lengths.float()
