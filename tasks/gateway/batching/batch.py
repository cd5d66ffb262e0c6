"""Continuous batching: rows decoded together, each with the result it would have alone.

Rows are right-aligned in one key-value slab: all write the same column at a step, and the columns left of a
row's start are masked. Positions are counted per row. Rows join and leave between any two steps
(continuous batching, Yu et al. 2022, Orca); joining or leaving copies one row, not the slab. Prompts are
prefilled together, padded on the right, where the causal mask alone hides the padding.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from tasks.gateway.batching.prefixed_model import begin_cache
from tasks.gateway.batching.running_rows import RunningRows

MINIMUM_FREE_COLUMNS = 64


class SlabLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, with room for rows below and columns to the right.

    Args:
        keys: Slab of shape ``[rows, heads, columns, size]``; unused columns must be finite, because
            masked values are still multiplied (by zero).
        values: Slab of the same rows and columns.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.slabs = (keys, values)

    def expose(self, rows: int, left: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Expose the first ``rows`` rows and the columns from ``left`` to before ``end`` to the model."""
        self._window = (rows, left, end)
        keys, values = (slab[:rows, :, left:end] for slab in self.slabs)
        self.keys, self.values = keys, values
        return keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, left, end = self._window
        after = end + key_states.shape[-2]
        for slab, states in zip(self.slabs, (key_states, value_states), strict=True):
            slab[:rows, :, end:after] = states
        return self.expose(rows, left, after)


class Batch:
    """The running rows of one model.

    Args:
        model: A causal language model in evaluation mode that takes ``position_ids`` and a key-value cache.
        prefill_tokens: Maximum tokens of one prefill, padding included; bounds how long running rows wait.
    """

    def __init__(self, model: Any, prefill_tokens: int) -> None:
        self._model = model
        self._prefill_tokens = prefill_tokens
        self._layers: list[SlabLayer] = []
        # The next column to write.
        self._end = 0
        self._lengths: list[int] = []

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def _width(self) -> int:
        """Columns in use: those of the longest row."""
        return max(self._lengths, default=0)

    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Add rows after the running ones.

        Args:
            prompts: Token ids of each row, at least one.

        Returns:
            Logits of the token after each prompt, ``[len(prompts), vocabulary]``.
        """
        logits = []
        start = 0
        while start < len(prompts):
            end, longest = start + 1, len(prompts[start])
            while end < len(prompts):
                longest = max(longest, len(prompts[end]))
                if longest * (end + 1 - start) > self._prefill_tokens:
                    break
                end += 1
            logits.append(self._prefill(prompts[start:end]))
            start = end
        return torch.cat(logits)

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        # Only columns where some prompt ends are projected to the vocabulary.
        ends = sorted({length - 1 for length in lengths})
        device = self._model.device
        cache, before = begin_cache(self._model, len(prompts))
        output = self._model(
            input_ids=ids.to(device),
            position_ids=torch.arange(before, before + max(lengths), device=device).expand(len(prompts), -1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(ends, device=device),
        )
        self._add(cache, [before + length for length in lengths])
        columns = [ends.index(length - 1) for length in lengths]
        logits: torch.Tensor = output.logits[torch.arange(len(prompts)), columns].float().cpu()
        return logits

    def _add(self, prefilled: Any, lengths: list[int]) -> None:
        """Copy prefilled rows below the running ones, with their last tokens in the last used column."""
        running, longest = len(self), max(lengths)
        rows = running + len(lengths)
        if not self._layers:
            self._layers = [SlabLayer(layer.keys[:0], layer.values[:0]) for layer in prefilled.layers]
        if rows > self._layers[0].slabs[0].shape[0] or longest > self._end:
            self._move(rows, max(self._width, longest))
        for layer, fresh in zip(self._layers, prefilled.layers, strict=True):
            for slab, source in zip(layer.slabs, (fresh.keys, fresh.values), strict=True):
                for row, length in enumerate(lengths):
                    slab[running + row, :, self._end - length : self._end] = source[row, :, :length]
        self._lengths.extend(lengths)

    def _move(self, rows: int, end: int) -> None:
        """Copy the used columns into new slabs, so that they end before a given column."""
        running, width = len(self), self._width
        for layer in self._layers:
            moved = []
            for slab in layer.slabs:
                _, heads, _, size = slab.shape
                # Twice the used columns, so that copies cost a constant time per step on average.
                fresh = slab.new_zeros(max(rows, slab.shape[0]), heads, end + max(end, MINIMUM_FREE_COLUMNS), size)
                fresh[:running, :, end - width : end] = slab[:running, :, self._end - width : self._end]
                moved.append(fresh)
            layer.slabs = (moved[0], moved[1])
        self._end = end

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row.

        Returns:
            Logits of the token after it, ``[len(self), vocabulary]``.
        """
        if self._end == self._layers[0].slabs[0].shape[2]:
            self._move(len(self), self._width)
        device, width = self._model.device, self._width
        for layer in self._layers:
            layer.expose(len(self), self._end - width, self._end)
        lengths = torch.tensor(self._lengths)
        visible = torch.arange(width + 1) >= (width - lengths)[:, None]
        layers: list[Any] = [*self._layers]
        output = self._model(
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=visible.to(device),
            position_ids=lengths[:, None].to(device),
            past_key_values=Cache(layers=layers),
            use_cache=True,
        )
        self._end += 1
        self._lengths = [length + 1 for length in self._lengths]
        logits: torch.Tensor = output.logits[:, -1].float().cpu()
        return logits

    def remove(self, indices: Collection[int]) -> list[int]:
        """Remove rows; rows from the end move into the gaps.

        Returns:
            The former indices of the remaining rows, in their new order.
        """
        order = list(range(len(self)))
        for index in sorted(indices, reverse=True):
            last = order.pop()
            if index < len(order):
                order[index] = last
                length = self._lengths[last]
                for layer in self._layers:
                    for slab in layer.slabs:
                        # The last row is still below all remaining ones.
                        row = slab[len(order), :, self._end - length : self._end]
                        slab[index, :, self._end - length : self._end] = row
        self._lengths = [self._lengths[index] for index in order]
        if not order:
            self.clear()
        return order

    def clear(self) -> None:
        """Remove all rows and free their memory."""
        self._layers, self._end, self._lengths = [], 0, []


def logits_alone(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after a sequence, computed in one pass with neither batch nor cache, ``[vocabulary]``."""
    ids = torch.tensor([list(tokens)], device=model.device)
    cache, before = begin_cache(model, 1)
    kept = {"past_key_values": cache, "use_cache": True} if before else {"use_cache": False}
    logits: torch.Tensor = model(input_ids=ids, logits_to_keep=1, **kept).logits[0, -1].float().cpu()
    return logits


def rounding_noise(
    model: Any, prompts: Sequence[Sequence[int]], steps: int = 2, batch: RunningRows | None = None
) -> float:
    """Largest difference of a logit between a row in a mixed batch and the same row alone.

    A model whose rows influence one another, or that ignores positions or the mask, shows a difference far
    above rounding.

    Args:
        model: Gives the logits of a row alone.
        prompts: Token ids of each row; the last one joins while the others run.
        steps: Tokens after the prompts.
        batch: Without rows; `Batch` by default.
    """
    batch = batch or Batch(model, prefill_tokens=1 << 20)
    rows = [list(prompt) for prompt in prompts[:-1]]
    logits = batch.join(rows)
    largest = 0.0
    for step in range(steps + 1):
        for row, tokens in enumerate(rows):
            largest = max(largest, float((logits[row] - logits_alone(model, tokens)).abs().max()))
        if step == 0:
            late = list(prompts[-1])
            logits = torch.cat([logits, batch.join([late])])
            rows.append(late)
        chosen = [int(token) for token in logits.argmax(dim=-1)]
        rows = [[*tokens, token] for tokens, token in zip(rows, chosen, strict=True)]
        logits = batch.step(chosen)
    return largest
