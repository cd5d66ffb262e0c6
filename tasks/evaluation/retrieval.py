"""Retrieval with a model's vectors of texts: which rank the right text has among those of all items.

A text's vector is made of the last hidden states of its tokens, without a chat template, as contrastive training makes
it (`tasks.language_models.pooling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.progress import progress
from tasks.evaluation.items import Item
from tasks.language_models.generation import context_length
from tasks.language_models.pooling import Pooling, pool_tokens
from tasks.training.text_pairs import PairKind, read_prompt


def rank_partners(
    model: Any, tokenizer: Any, items: Sequence[Item], pairs: PairKind, batch: int, pooling: Pooling
) -> NDArray[np.int64]:
    """The rank of the right text for each item, from 1; 0 where it has none.

    Right is, by cosine among the texts of all other items, the item's own answer, or with ``labels`` the nearest prompt
    of its label. Of equal cosines the right one comes last, so that a model without distinctions gains nothing.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        items: With prompts.
        pairs: ``answers`` or ``labels``.
        batch: Texts read at once.
        pooling: How the states of a text become its vector.
    """
    prompts = [read_prompt([*item.prompt, {"role": "assistant", "content": item.reference}]) for item in items]
    others = [item.reference.strip() for item in items] if pairs == "answers" else prompts
    texts = sorted({*prompts, *others} - {""})
    places = {text: place for place, text in enumerate(texts)}
    vectors = embed_texts(model, tokenizer, texts, batch, pooling)
    candidates = np.array([places.get(text, -1) for text in others])
    pool = np.unique(candidates[candidates >= 0])
    labels: dict[int, set[str]] = {}
    for item, place in zip(items, candidates, strict=True):
        if item.label is not None and place >= 0:
            labels.setdefault(int(place), set()).add(item.label)
    ranks = np.zeros(len(items), dtype=np.int64)
    for number, item in enumerate(items):
        query = places.get(prompts[number], -1)
        if query < 0:
            continue
        among = pool[pool != query] if pairs == "labels" else pool
        if pairs == "answers":
            right = among == candidates[number]
        else:
            right = np.array([item.label in labels.get(int(place), ()) for place in among], dtype=bool)
        if right.any():
            cosines = vectors[among] @ vectors[query]
            ranks[number] = 1 + int((cosines[~right] >= cosines[right].max()).sum())
    return ranks


def embed_texts(model: Any, tokenizer: Any, texts: Sequence[str], batch: int, pooling: Pooling) -> NDArray[np.float64]:
    """Unit vectors, (texts, width); a text longer than the context is read up to there."""
    import torch

    limit = context_length(model.config)
    encoded = [ids[:limit] for ids in tokenizer(list(texts)).input_ids] if texts else []
    order = sorted(range(len(texts)), key=lambda place: -len(encoded[place]))
    vectors: list[NDArray[np.float64]] = [np.zeros(0)] * len(texts)
    with torch.inference_mode(), progress("embedding", len(texts)) as advance:
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            width = max(len(encoded[row]) for row in rows)
            ids, mask = (torch.zeros((len(rows), width), dtype=torch.long) for _ in range(2))
            for number, row in enumerate(rows):
                ids[number, : len(encoded[row])] = torch.tensor(encoded[row])
                mask[number, : len(encoded[row])] = 1
            ids, mask = ids.to(model.device), mask.to(model.device)
            for row, vector in zip(rows, _pool(model, ids, mask, pooling), strict=True):
                vectors[row] = vector
            advance(len(rows))
    return np.stack(vectors) if vectors else np.zeros((0, 0))


def _pool(model: Any, ids: Any, mask: Any, pooling: Pooling) -> NDArray[np.float64]:
    """Vectors of the states before the output layer, which a hook reads, so that any model and adapter will do."""
    import torch

    found: list[torch.Tensor] = []

    def read(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        found.append(arguments[0])
        return (arguments[0][:, :1],)

    hook = model.get_output_embeddings().register_forward_pre_hook(read)
    try:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        hook.remove()
    inside = mask.bool()
    owners = torch.arange(len(mask), device=mask.device)[:, None].expand(mask.shape)[inside]
    unit: NDArray[np.float64] = pool_tokens(found[0].double()[inside], owners, len(mask), pooling).cpu().numpy()
    return unit
