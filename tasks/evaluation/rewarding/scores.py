"""Rewards of the held-out references, of worse answers beside them, and of the steps of those that are marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.items import Item
from tasks.language_models.encoding import IGNORED
from tasks.language_models.generation import context_length
from tasks.training.answer_steps import find_step_ends, split_steps
from tasks.training.objectives.answers import Side, encode_sides
from tasks.training.objectives.data import Tokenization
from tasks.training.reward_models import last_place, padding_of, score_places

UNLIMITED = 1 << 30


@dataclass(frozen=True)
class RewardScores:
    """What a model gives the items.

    Attributes:
        own: Reward of each reference, (items,).
        worse: Reward of each worse answer, (items,); not a number for items without one.
        steps: Rewards of each reference's steps; empty for items without marks.
    """

    own: NDArray[np.float64] = field(repr=False)
    worse: NDArray[np.float64] = field(repr=False)
    steps: tuple[NDArray[np.float64], ...] = field(repr=False)


def score_references_with(
    opened: tuple[Any, Any] | None, items: Sequence[Item], batch_size: int, device: str, name: str
) -> RewardScores:
    """The rewards of all references.

    Args:
        opened: A sequence classifier with one output and its tokenizer; None for a model without rewards, which gives
            0 to everything.
        items: The held-out items.
        batch_size: Texts read at once.
        device: ``cpu``, ``cuda`` or ``auto``.
        name: What the model is called, beside the progress bar.
    """
    has_worse = np.array([item.worse is not None for item in items])
    if opened is None:
        steps = tuple(np.zeros(len(item.steps)) for item in items)
        return RewardScores(np.zeros(len(items)), np.where(has_worse, 0.0, np.nan), steps)
    import torch

    classifier, tokenizer = opened
    target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    classifier = classifier.to(target)
    how = Tokenization(tokenizer, context_length(classifier.config) or UNLIMITED)
    texts = [(item, item.reference) for item in items]
    texts += [(item, item.worse) for item in items if item.worse is not None]
    sides = [Side(item.id, item.prompt, [{"role": "assistant", "content": text}], 0.0) for item, text in texts]
    encoded = encode_sides(sides, how)
    rows = [one.tokens.tolist() for one in encoded]
    places = [[last_place(row, padding_of(tokenizer))] for row in rows]
    for number, item in enumerate(items):
        if item.steps:
            start = int(np.argmax(encoded[number].labels != IGNORED))
            found = find_step_ends(tokenizer, rows[number][start:], split_steps(item.reference), whole=True)
            if len(found) == len(item.steps):
                places[number] = [start + place for place in found]
    each = score_places(classifier, rows, places, batch_size, f"{name}: rewarding")
    worse = np.full(len(items), np.nan)
    worse[has_worse] = [float(values[-1]) for values in each[len(items) :]]
    return RewardScores(
        np.array([float(values[-1]) for values in each[: len(items)]]),
        worse,
        tuple(
            values.astype(np.float64) if len(values) == len(item.steps) else np.zeros(0)
            for values, item in zip(each, items, strict=False)
        ),
    )
