"""Speculative decoding (Leviathan et al. 2023, arXiv:2211.17192): a small model proposes, the large one checks.

A draft model writes a few tokens ahead; one pass of the model gives its own logits after each of them. The decoding
loop chooses every token from the model's logits, as always, and a proposal that turns out to be the chosen token has
saved a pass. So answers are those without a draft, greedy and sampled with the same seed alike; a poor draft costs
time and nothing else.

Rows are computed one by one: for a few clients that wait for their answers, not for the throughput of many.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicCache


@dataclass(eq=False)
class _ReadTokens:
    """The tokens of a row that one model has read, with its keys and values."""

    model: Any
    tokens: list[int] = field(default_factory=list)
    cache: Any = field(default_factory=DynamicCache)

    def read(self, tokens: Sequence[int], kept: int) -> torch.Tensor:
        """Read a sequence, of which what was read before is not read again.

        Args:
            tokens: The whole sequence.
            kept: Logits to return, those after the last tokens; so many tokens at least are read.

        Returns:
            Logits of shape (kept, vocabulary).
        """
        shared = 0
        limit = min(len(self.tokens), len(tokens) - kept)
        while shared < limit and self.tokens[shared] == tokens[shared]:
            shared += 1
        if len(self.tokens) > shared:
            self.cache.crop(shared - len(self.tokens))
        device = self.model.device
        ids = torch.tensor([list(tokens[shared:])], device=device)
        positions = torch.arange(shared, len(tokens), device=device)[None]
        output = self.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=kept,
        )
        self.tokens = list(tokens)
        logits: torch.Tensor = output.logits[0, -kept:].float().cpu()
        return logits


@dataclass(eq=False)
class _SpeculativeRow:
    """A row in the batch.

    Attributes:
        tokens: Prompt and chosen tokens.
        target: What the model has read of it.
        draft: What the draft has read of it.
        proposed: Proposals that follow, as far as they are checked.
        logits: The model's after each of them.
    """

    tokens: list[int]
    target: _ReadTokens
    draft: _ReadTokens
    proposed: list[int] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)


class SpeculativeBatch:
    """The running rows of a model with a draft; to a decoding loop the same as `tasks.gateway.batching.batch.Batch`.

    Args:
        model: A causal language model in evaluation mode, with a key-value cache that can be cropped.
        draft: A smaller one with the same vocabulary.
        ahead: Tokens proposed at a time.
        context: Maximum tokens of a row.
    """

    def __init__(self, model: Any, draft: Any, ahead: int, context: int) -> None:
        self._model, self._draft, self._ahead, self._context = model, draft, ahead, context
        self._rows: list[_SpeculativeRow] = []
        self.proposed = 0
        self.accepted = 0
        self.passes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Add rows after the running ones.

        Args:
            prompts: Token ids of each row, at least one.

        Returns:
            Logits of the token after each prompt, ``[len(prompts), vocabulary]``.
        """
        logits = []
        for prompt in prompts:
            row = _SpeculativeRow(list(prompt), _ReadTokens(self._model), _ReadTokens(self._draft))
            self._rows.append(row)
            logits.append(row.target.read(row.tokens, 1)[0])
        return torch.stack(logits)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row.

        Returns:
            Logits of the token after it, ``[len(self), vocabulary]``.
        """
        return torch.stack([self._append(row, token) for row, token in zip(self._rows, tokens, strict=True)])

    def _append(self, row: _SpeculativeRow, token: int) -> torch.Tensor:
        row.tokens.append(token)
        if row.proposed and row.proposed[0] == token:
            row.proposed.pop(0)
            self.accepted += 1
            return row.logits.pop(0)
        row.proposed = self._propose(row)
        checked = [*row.tokens, *row.proposed]
        first, *row.logits = row.target.read(checked, len(row.proposed) + 1).unbind(0)
        self.proposed += len(row.proposed)
        self.passes += 1
        return first

    def _propose(self, row: _SpeculativeRow) -> list[int]:
        """The draft's greedy continuation, as far as the context allows."""
        written: list[int] = []
        for _ in range(min(self._ahead, self._context - len(row.tokens))):
            written.append(int(row.draft.read([*row.tokens, *written], 1)[0].argmax()))
        return written

    def remove(self, indices: Collection[int]) -> list[int]:
        """Remove rows.

        Returns:
            The former indices of the remaining rows, in their order.
        """
        order = [index for index in range(len(self._rows)) if index not in set(indices)]
        self._rows = [self._rows[index] for index in order]
        return order

    def clear(self) -> None:
        """Remove all rows and free their memory."""
        self._rows = []
