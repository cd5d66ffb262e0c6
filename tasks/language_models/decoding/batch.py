"""Greedy decoding of token sequences, a batch at a time or one after the other.

Prompts are padded on the left, batches hold rows of like length, and a row leaves its batch as soon as it ends, so that
short answers do not pay for long ones.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

# From the number of a row and what is written of its answer to whether that ends here.
IsOver = Callable[[int, Sequence[int]], bool]


def length_batches(sequences: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Positions of sequences in batches of like length, longest first so that memory fails early."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad_left(rows: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and positions, each (rows, longest); padding stands on the left and is masked."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[number, longest - len(row) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return ids.to(device), mask.to(device), positions.to(device)


def takes_batches(model: Any) -> bool:
    """Whether the model decodes through the common cache with explicit positions.

    A model that puts learned vectors before the prompt counts positions itself and takes none.
    """
    accepts = {"position_ids", "past_key_values"} <= set(inspect.signature(model.forward).parameters)
    if accepts and not model._is_stateful and model._supports_default_dynamic_cache():
        return True
    logger.warning(
        "%s is answered one prompt at a time: it takes no positions or has a cache of its own", type(model).__name__
    )
    return False


def _last_logits(model: Any) -> dict[str, Any]:
    accepts = inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in accepts else {}


def _take_likeliest(logits: Tensor, rows: Sequence[int]) -> Tensor:
    return logits.argmax(dim=-1)


def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    room: Sequence[int],
    ends: frozenset[int],
    choose: Callable[[Tensor, Sequence[int]], Tensor] = _take_likeliest,
    is_over: IsOver | None = None,
) -> list[list[int]]:
    """Tokens of one batch, greedy unless chosen otherwise; a row that has ended leaves the batch and its cache.

    Args:
        model: The model.
        prompts: Token ids before each answer.
        room: Most tokens of each answer.
        ends: Ids that end an answer.
        choose: From logits, (rows, vocabulary), and which rows they are, to their next tokens, (rows,).
        is_over: Whether the answer of a row ends with what is written of it.
    """
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids, mask, positions = pad_left(prompts, model.device)
    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    last_only = _last_logits(model)
    while True:
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **last_only,
        ).logits
        chosen = choose(logits[:, -1], rows)
        going = []
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            written[row].append(token)
            if token in ends or len(written[row]) >= room[row]:
                continue
            if is_over is None or not is_over(row, written[row]):
                going.append(place)
        if not going:
            return written
        if len(going) < len(rows):
            keep = torch.tensor(going, device=ids.device)
            cache.batch_select_indices(keep)
            chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
            rows = [rows[place] for place in going]
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
        positions = positions[:, -1:] + 1


def decode_one_by_one(
    model: Any,
    prompts: Sequence[Sequence[int]],
    room: Sequence[int],
    ends: frozenset[int],
    is_over: IsOver | None = None,
) -> list[list[int]]:
    """Greedy tokens through the model's own ``generate``, for architectures with another kind of state."""
    import torch
    from transformers import StoppingCriteriaList

    written: list[list[int]] = []
    for prompt, limit in zip(prompts, room, strict=True):
        ids = torch.tensor([list(prompt)], device=model.device)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=sorted(ends),
            pad_token_id=min(ends),
            stopping_criteria=StoppingCriteriaList(_criteria(is_over, len(written), len(prompt))),
        )
        written.append(output[0, len(prompt) :].tolist())
    return written


def _criteria(is_over: IsOver | None, row: int, before: int) -> list[Any]:
    """What `is_over` says of a row, as ``generate`` asks it."""
    import torch

    if is_over is None:
        return []

    def criterion(ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.tensor([is_over(row, ids[0, before:].tolist())], device=ids.device)

    return [criterion]
