"""Log-likelihoods of given continuations, in batches that read a shared context once.

The options of a multiple-choice question stand after the same context. It is read once, its keys and values are
repeated for each option, and only the options are read as often as there are of them; for options of one token the
context's last position tells all. The sums are those of reading each pair whole, up to rounding.

Example:
    Context of 50 tokens, four options of 5: 50 + 4 x 4 positions in place of 4 x 54.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.contracts.progress import progress
from tasks.language_models.decoding.batch import length_batches, pad_left, takes_batches

if TYPE_CHECKING:
    from torch import Tensor

# Logits of one batch at most, in elements: 1 GiB of fp32, however large the vocabulary.
LOGITS = 2**28


@dataclass(frozen=True)
class Likelihood:
    """How likely a continuation is.

    Attributes:
        total: Sum of the log-probabilities of its tokens, in nats.
        greedy: Whether each of its tokens is the most likely one.
        tokens: Number of its tokens.
    """

    total: float
    greedy: bool
    tokens: int


Pair = tuple[list[int], list[int]]


def score_continuations(
    model: Any, pairs: Sequence[Pair], vocabulary: int, batch_size: int, title: str, padded: bool = True
) -> list[Likelihood]:
    """Log-likelihood of each continuation after its context.

    Args:
        model: A causal language model in evaluation mode.
        pairs: Token ids of context and continuation, not one of them empty, each pair within the model's context
            and one token more, as no logits are needed after the last token.
        vocabulary: Number of logits at a position, which limits a batch.
        batch_size: Pairs at once.
        title: Name beside the progress bar.
        padded: Whether rows of a batch may be padded; a model with learned vectors before its text takes none.

    Returns:
        One per pair, in their order.
    """
    import torch

    groups: dict[tuple[int, ...], list[int]] = {}
    for place, (before, _) in enumerate(pairs):
        groups.setdefault(tuple(before), []).append(place)
    cached = padded and any(len(places) > 1 for places in groups.values()) and takes_batches(model)
    shared = [places for places in groups.values() if cached and len(places) > 1]
    alone = [places[0] for places in groups.values() if cached and len(places) == 1]
    alone = alone if cached else list(range(len(pairs)))
    found: list[Likelihood] = [Likelihood(0.0, False, 0)] * len(pairs)
    with torch.inference_mode(), progress(title, len(pairs)) as advance:
        for places in _plain_batches(pairs, alone, vocabulary, batch_size if padded else 1):
            for place, one in zip(places, _score_whole(model, [pairs[p] for p in places]), strict=True):
                found[place] = one
            advance(len(places))
        for chunk in _shared_batches(pairs, shared, vocabulary, batch_size):
            places = [place for group in chunk for place in group]
            scored = _score_after_cache(model, [[pairs[place] for place in group] for group in chunk])
            for place, one in zip(places, scored, strict=True):
                found[place] = one
            advance(len(places))
    return found


def _plain_batches(pairs: Sequence[Pair], places: Sequence[int], vocabulary: int, size: int) -> Iterator[list[int]]:
    """Places of pairs of like length, as many at once as their logits allow."""
    for rows in length_batches([pairs[place][0] + pairs[place][1] for place in places], size):
        kept = max(len(pairs[places[row]][1]) for row in rows)
        step = max(1, LOGITS // (kept * vocabulary))
        for start in range(0, len(rows), step):
            yield [places[row] for row in rows[start : start + step]]


def _shared_batches(
    pairs: Sequence[Pair], groups: Sequence[list[int]], vocabulary: int, size: int
) -> Iterator[list[list[int]]]:
    """Groups of pairs with one context each, of like length, until a batch is full."""
    order = sorted(groups, key=lambda group: (-len(pairs[group[0]][0]), group[0]))
    batch: list[list[int]] = []
    rows = longest = 0
    for group in order:
        length = max(longest, *(len(pairs[place][1]) for place in group))
        if batch and (rows + len(group) > size or (rows + len(group)) * length * vocabulary > LOGITS):
            yield batch
            batch, rows, length = [], 0, max(len(pairs[place][1]) for place in group)
        batch.append(group)
        rows, longest = rows + len(group), length
    if batch:
        yield batch


def _score_whole(model: Any, pairs: Sequence[Pair]) -> list[Likelihood]:
    """Each pair read whole; the continuations end at the right edge, so only the last logits are needed."""
    kept = max(len(after) for _, after in pairs)
    # Nothing is predicted after the last token, so it is not read.
    ids, mask, positions = pad_left([(before + after)[:-1] for before, after in pairs], model.device)
    accepts = inspect.signature(model.forward).parameters
    extra: dict[str, Any] = {"logits_to_keep": kept} if "logits_to_keep" in accepts else {}
    if "position_ids" in accepts:
        extra["position_ids"] = positions
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits[:, -kept:]
    targets, _, _ = pad_left([after for _, after in pairs], model.device)
    return _read(logits, targets, [slice(kept - len(after), kept) for _, after in pairs])


def _score_after_cache(model: Any, groups: Sequence[Sequence[Pair]]) -> list[Likelihood]:
    """Each context read once, then its continuations after copies of its keys and values."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids, mask, positions = pad_left([group[0][0] for group in groups], model.device)
    accepts = inspect.signature(model.forward).parameters
    last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepts else {}
    how: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    first = model(input_ids=ids, attention_mask=mask, position_ids=positions, **how, **last_only).logits[:, -1:]
    owner = torch.tensor([number for number, group in enumerate(groups) for _ in group], device=ids.device)
    afters = [after for group in groups for _, after in group]
    logits = first[owner]
    longest = max(len(after) for after in afters)
    targets = torch.zeros((len(afters), longest), dtype=torch.long)
    for row, after in enumerate(afters):
        targets[row, : len(after)] = torch.tensor(after, dtype=torch.long)
    targets = targets.to(ids.device)
    if longest > 1:
        cache.batch_select_indices(owner)
        # Padding stands on the right, where no earlier position sees it.
        read = targets[:, :-1]
        after_mask = torch.cat([mask[owner], torch.ones_like(read)], dim=1)
        steps = torch.arange(1, longest, device=ids.device)
        later = model(input_ids=read, attention_mask=after_mask, position_ids=positions[owner, -1:] + steps, **how)
        logits = torch.cat([logits, later.logits], dim=1)
    return _read(logits, targets, [slice(0, len(after)) for after in afters])


def _read(logits: Tensor, targets: Tensor, spans: Sequence[slice]) -> list[Likelihood]:
    """What logits, (rows, positions, vocabulary), say of the targets, (rows, positions), in a stretch of each row."""
    import torch

    likely = logits.argmax(dim=-1) == targets
    surprise = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none").double()
    return [
        Likelihood(-float(nats[span].sum()), bool(best[span].all()), span.stop - span.start)
        for nats, best, span in zip(surprise.cpu(), likely.cpu(), spans, strict=True)
    ]
