"""The batches and their order: a function of lengths, plan and seed alone.

With packing, whole conversations share a row of up to ``max_tokens``, best-fit decreasing (Ding et al. 2024,
arXiv:2404.10830), in the same rows as TRL's ``bfd``; positions restart with each conversation, which gives each
its own attention block. Without packing, conversations of similar length share a batch, which saves padding: the
order is shuffled, sorted by length within a few batches at a time, and the batches are shuffled again. Stratified,
every batch has each class in proportion to its rows, as near as whole rows allow, and lengths are ignored.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tasks.language_models.encoding import IGNORED
from tasks.training.rows import TokenizedRows

CONVERSATIONS_PACKED_TOGETHER = 1000  # as TRL packs them; the number of steps in the plan relies on it
BATCHES_SORTED_TOGETHER = 24

Bins = list[list[int]]


def pack(lengths: Sequence[int], max_tokens: int) -> Bins:
    """Rows of several conversations: indices of each, longest first.

    Args:
        lengths: Tokens of each conversation, none above ``max_tokens``.
        max_tokens: Capacity of a row.
    """
    bins: Bins = []
    for start in range(0, len(lengths), CONVERSATIONS_PACKED_TOGETHER):
        members = range(start, min(start + CONVERSATIONS_PACKED_TOGETHER, len(lengths)))
        bins += _best_fit(lengths, members, max_tokens)
    return bins


def _best_fit(lengths: Sequence[int], members: range, max_tokens: int) -> Bins:
    bins: Bins = []
    open_bins: list[tuple[int, int, int]] = []  # (room, age, bin), sorted: the fullest bin that fits, then the oldest
    age = 0
    for index in sorted(members, key=lambda i: -lengths[i]):
        length = int(lengths[index])
        index_of_bin = bisect.bisect_left(open_bins, (length, -1, -1))
        if index_of_bin < len(open_bins):
            room, _, chosen = open_bins.pop(index_of_bin)
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
    draw: Callable[[int], np.ndarray] | None = None,
) -> Iterator[Bins]:
    """Endless batches, epoch after epoch; a batch is a list of rows, a row a list of conversations.

    Args:
        lengths: Tokens of each conversation.
        packed: Several conversations per row.
        max_tokens: Capacity of a packed row.
        batch_size: Rows of a batch.
        seed: Seed of the order.
        classes: Class of each conversation, to stratify by; not with packed rows.
        draw: From the number of an epoch to the conversations that it has; all of them, once each, by default.
    """
    rows = _make_rows(range(len(lengths)), lengths, packed, max_tokens)
    totals = np.array([sum(int(lengths[i]) for i in row) for row in rows])
    epoch = 0
    while True:
        if draw is not None:
            rows = _make_rows(draw(epoch).tolist(), lengths, packed, max_tokens)
            totals = np.array([sum(int(lengths[i]) for i in row) for row in rows])
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(rows)) if classes is None else _stratified_order(classes, random)
        if not packed and classes is None:
            size = BATCHES_SORTED_TOGETHER * batch_size
            parts = [order[start : start + size] for start in range(0, len(order), size)]
            order = np.concatenate([part[np.argsort(-totals[part], kind="stable")] for part in parts])
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        for number in random.permutation(len(batches)):
            yield [rows[index] for index in batches[number]]
        epoch += 1


def _make_rows(items: Sequence[int], lengths: Sequence[int], packed: bool, max_tokens: int) -> Bins:
    """Rows of some of the conversations, in their order."""
    if not packed:
        return [[index] for index in items]
    return [[items[place] for place in row] for row in pack([lengths[index] for index in items], max_tokens)]


def _stratified_order(classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All rows in an order in which each class is evenly spaced, from a random offset of its own."""
    positions = np.empty(len(classes))
    for name in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == name))
        positions[members] = (np.arange(len(members)) + random.random()) / len(members)
    return np.argsort(positions, kind="stable")


def collate(rows: TokenizedRows, batch: Bins, pad: int, packed: bool) -> dict[str, Any]:
    """A batch as tensors of shape (rows, longest row).

    A packed row holds its items, one sequence after another; else each sequence is a row. Packed batches have
    ``position_ids`` and no ``attention_mask``: transformers derives the blocks from positions that restart. The padding
    is a block of its own. Where rows have weights, ``weights`` has that of each token; where wrong tokens have costs,
    ``cost_places`` (among all tokens of the batch), ``cost_tokens`` and ``costs`` have those. Where items have several
    sequences or columns, ``sequences`` has the number of each token's sequence in the batch, -1 for the padding,
    ``items`` the items, and each column is there.

    Args:
        rows: All items.
        batch: The rows of the batch, indices of items.
        pad: Token id of the padding.
        packed: Several items per row.
    """
    import torch

    lengths, per_item = np.diff(rows.offsets), rows.per_item
    items = [item for row in batch for item in row]
    if per_item > 1:
        batch = [[item * per_item + number for item in row for number in range(per_item)] for row in batch]
        batch = batch if packed else [[sequence] for row in batch for sequence in row]
    width = max(int(sum(lengths[i] for i in row)) for row in batch)
    tokens = np.full((len(batch), width), pad, dtype=np.int64)
    labels = np.full((len(batch), width), IGNORED, dtype=np.int64)
    positions = np.zeros((len(batch), width), dtype=np.int64)  # or the attention mask, where rows are not packed
    weights = np.ones((len(batch), width), dtype=np.float32)
    sequences = np.full((len(batch), width), -1, dtype=np.int64)
    order: list[int] = []
    costs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, row in enumerate(batch):
        start = 0
        for index in row:
            end = start + int(lengths[index])
            if rows.costs is not None:
                first = int(rows.offsets[index])
                places, wrong, each = rows.costs.between(first, int(rows.offsets[index + 1]))
                costs.append((places - first + number * width + start, wrong, each))
            tokens[number, start:end], labels[number, start:end] = rows.row(index)
            positions[number, start:end] = np.arange(end - start) if packed else 1
            if rows.weights is not None:
                weights[number, start:end] = rows.weights[index // per_item]
            sequences[number, start:end] = len(order)
            order.append(index)
            start = end
        if packed:
            positions[number, start:] = np.arange(width - start)
    name = "position_ids" if packed else "attention_mask"
    return {
        "input_ids": torch.from_numpy(tokens),
        "labels": torch.from_numpy(labels),
        name: torch.from_numpy(positions),
        **({} if rows.weights is None else {"weights": torch.from_numpy(weights)}),
        **(_join_costs(costs, labels) if costs else {}),
        **(_tell_sequences(rows, sequences, items, order) if rows.names_sequences else {}),
    }


def _tell_sequences(rows: TokenizedRows, sequences: np.ndarray, items: list[int], order: list[int]) -> dict[str, Any]:
    """Which token is of which sequence, which items a batch has, and the columns of its sequences."""
    import torch

    return {
        "sequences": torch.from_numpy(sequences),
        "items": torch.tensor(items, dtype=torch.int64),
        **{name: torch.from_numpy(np.ascontiguousarray(column[order])) for name, column in rows.columns.items()},
    }


def _join_costs(costs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], labels: np.ndarray) -> dict[str, Any]:
    """Costs of all rows of a batch, without those of the right tokens, whose further places have their own."""
    import torch

    places, tokens, each = (np.concatenate(parts) for parts in zip(*costs, strict=True))
    wrong = labels.ravel()[places] != tokens
    arrays = {"cost_places": places[wrong], "cost_tokens": tokens[wrong], "costs": each[wrong]}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def share_batches(batches: Sequence[Bins], rank: int, ranks: int) -> Iterator[tuple[Bins, bool]]:
    """The batches of one rank, in turn, and whether each counts.

    All ranks get equally many, since they compute together; one that has none left gets the first batch again, which
    does not count.
    """
    for start in range(0, len(batches), ranks):
        own = start + rank
        yield (batches[own], True) if own < len(batches) else (batches[0], False)


def validation_batches(lengths: Sequence[int], tokens: int, tasks: np.ndarray | None = None) -> list[Bins]:
    """All rows once, rows of similar length together, about ``tokens`` tokens per batch, none of several tasks."""
    if tasks is not None:
        each = [np.flatnonzero(tasks == task).tolist() for task in np.unique(tasks)]
        made = [(rows, validation_batches([lengths[row] for row in rows], tokens)) for rows in each]
        return [[[rows[place]] for (place,) in batch] for rows, batches in made for batch in batches]
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches: list[Bins] = []
    for index in order.tolist():
        if batches and len(batches[-1]) < max(1, tokens // int(lengths[batches[-1][0][0]])):
            batches[-1].append([index])
        else:
            batches.append([[index]])
    return batches
