"""Labelled texts of a few topics, some labels wrong on purpose."""

from __future__ import annotations

import random

TOPICS = {
    name: [f"{name}{number}" for number in range(12)] for name in ("card", "parcel", "login", "refund", "invoice")
}

FILLER = ["please", "my", "the", "is", "where", "can", "you", "now", "help", "today"]


def texts_and_labels(count: int = 1000, seed: int = 1) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    labels = [list(TOPICS)[row % len(TOPICS)] for row in range(count)]
    return [" ".join(rng.sample(TOPICS[label], 2) + rng.sample(FILLER, 4)) for label in labels], labels
