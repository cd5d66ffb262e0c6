"""What a decoding loop needs of its running rows: `tasks.gateway.batching.batch.Batch` or what stands in for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class RunningRows(Protocol):
    """Rows that are decoded together, none at first."""

    def __len__(self) -> int: ...

    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Add rows after the running ones; logits of the token after each, ``[len(prompts), vocabulary]``."""
        ...

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row; logits of the token after it, ``[len(self), vocabulary]``."""
        ...

    def remove(self, indices: Collection[int]) -> list[int]:
        """Remove rows; the former indices of the remaining rows, in their new order."""
        ...

    def clear(self) -> None:
        """Remove all rows and free their memory."""
        ...
