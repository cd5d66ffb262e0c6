"""Which rows go through the model together and in what order: a function of lengths, plan and seed alone.

Packed, whole conversations share a row of up to ``max_tokens``, best-fit decreasing (Ding et al. 2024,
arXiv:2404.10830), in the same rows as TRL's ``bfd``; positions start again with each conversation, which gives each
its own attention block. Not packed, conversations of like length go together, so that little is padded: the order is
shuffled, sorted by length within stretches of some batches, and the batches are shuffled again. Stratified, every
batch has each class in its share of the rows, as near as whole rows allow, and lengths do not count.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tasks.fine_tuning.rows import Rows
from tasks.language_models.encoding import IGNORED

PACKED_TOGETHER = 1000  # TRL packs so many conversations at a time; the plan's steps count on it
STRETCH = 24  # batches sorted by length together

Bins = list[list[int]]


def pack(lengths: Sequence[int], max_tokens: int) -> Bins:
    """Rows of several conversations: indices of each, longest first.

    Args:
        lengths: Tokens of each conversation, none above ``max_tokens``.
        max_tokens: Capacity of a row.
    """
    bins: Bins = []
    for start in range(0, len(lengths), PACKED_TOGETHER):
        members = range(start, min(start + PACKED_TOGETHER, len(lengths)))
        bins += _best_fit(lengths, members, max_tokens)
    return bins


def _best_fit(lengths: Sequence[int], members: range, max_tokens: int) -> Bins:
    bins: Bins = []
    open_bins: list[tuple[int, int, int]] = []  # (room, age, bin): the fullest with room, the oldest of them
    age = 0
    for index in sorted(members, key=lambda i: -lengths[i]):
        length = int(lengths[index])
        place = bisect.bisect_left(open_bins, (length, -1, -1))
        if place < len(open_bins):
            room, _, chosen = open_bins.pop(place)
        else:
            room, chosen = max_tokens, len(bins)
            bins.append([])
        bins[chosen].append(index)
        if room > length:
            age += 1
            bisect.insort(open_bins, (room - length, age, chosen))
    return bins


def order_batches(
    lengths: Sequence[int],
    packed: bool,
    max_tokens: int,
    batch_size: int,
    seed: int,
    classes: np.ndarray | None = None,
) -> Iterator[Bins]:
    """Endless batches, epoch after epoch; a batch is a list of rows, a row a list of conversations.

    Args:
        lengths: Tokens of each conversation.
        packed: Several conversations per row.
        max_tokens: Capacity of a packed row.
        batch_size: Rows of a batch.
        seed: Of the order.
        classes: Class of each conversation, to stratify by; not with packed rows.
    """
    rows = pack(lengths, max_tokens) if packed else [[index] for index in range(len(lengths))]
    totals = np.array([sum(int(lengths[i]) for i in row) for row in rows])
    epoch = 0
    while True:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(rows)) if classes is None else _spread(classes, random)
        if not packed and classes is None:
            stretch = STRETCH * batch_size
            parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
            order = np.concatenate([part[np.argsort(-totals[part], kind="stable")] for part in parts])
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        for number in random.permutation(len(batches)):
            yield [rows[index] for index in batches[number]]
        epoch += 1


def _spread(classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All rows in an order in which each class stands at even distances, from a place of its own by chance."""
    places = np.empty(len(classes))
    for name in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == name))
        places[members] = (np.arange(len(members)) + random.random()) / len(members)
    return np.argsort(places, kind="stable")


def collate(rows: Rows, batch: Bins, pad: int, packed: bool) -> dict[str, Any]:
    """A batch as tensors of shape (rows, longest row).

    Packed batches have ``position_ids`` and no ``attention_mask``: transformers derives the blocks from positions
    that start again. The padding is a block of its own. Where rows have weights, ``weights`` holds that of each token.

    Args:
        rows: All conversations.
        batch: The rows of the batch.
        pad: Token id of the padding.
        packed: Several conversations per row.
    """
    import torch

    lengths = rows.lengths
    width = max(int(sum(lengths[i] for i in row)) for row in batch)
    tokens = np.full((len(batch), width), pad, dtype=np.int64)
    labels = np.full((len(batch), width), IGNORED, dtype=np.int64)
    places = np.zeros((len(batch), width), dtype=np.int64)
    weights = np.ones((len(batch), width), dtype=np.float32)
    for number, row in enumerate(batch):
        start = 0
        for index in row:
            end = start + int(lengths[index])
            tokens[number, start:end], labels[number, start:end] = rows.row(index)
            places[number, start:end] = np.arange(end - start) if packed else 1
            if rows.weights is not None:
                weights[number, start:end] = rows.weights[index]
            start = end
        if packed:
            places[number, start:] = np.arange(width - start)
    name = "position_ids" if packed else "attention_mask"
    return {
        "input_ids": torch.from_numpy(tokens),
        "labels": torch.from_numpy(labels),
        name: torch.from_numpy(places),
        **({} if rows.weights is None else {"weights": torch.from_numpy(weights)}),
    }


def validation_batches(lengths: Sequence[int], tokens: int) -> list[Bins]:
    """All rows once, of like length together, about ``tokens`` tokens a batch."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches: list[Bins] = []
    for index in order.tolist():
        if batches and len(batches[-1]) < max(1, tokens // int(lengths[batches[-1][0][0]])):
            batches[-1].append([index])
        else:
            batches.append([[index]])
    return batches
