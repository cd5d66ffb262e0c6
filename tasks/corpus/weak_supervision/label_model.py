"""One label out of many votes: how often each voter is right, learned from who agrees with whom.

The model of Dawid and Skene (1979) with one accuracy per voter (Zhang et al. 2016): a voter that does not abstain is
right with its accuracy, and otherwise names any other label alike; voters err independently. Labels and accuracies are
fitted in turns by expectation maximisation, from a beginning at which every voter is right in 7 of 10 votes. Ten votes
speak for that throughout, and so does every vote on a row where nobody else votes: agreement says nothing there, and
the few rows on which a voter meets others must not decide about all its votes. Nothing is random.

A label's probability is then a weighted vote: one of accuracy a among K labels weighs log(a (K - 1) / (1 - a)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ABSTAINS = -1
BEGINNING, WEIGHT = 0.7, 10.0
ROUNDS, SETTLED = 500, 1e-7


@dataclass(frozen=True)
class LabelModel:
    """What the votes say.

    Attributes:
        labels: The labels, sorted.
        accuracies: How often each voter is right when it votes, as estimated.
        probabilities: Rows x labels; the shares of the labels where nobody voted.
    """

    labels: list[str]
    accuracies: Array
    probabilities: Array


def code_votes(votes: Sequence[Sequence[str | None]], labels: Sequence[str]) -> Array:
    """Votes, a list per voter, as rows x voters of places among the labels; abstentions are -1."""
    place: dict[str | None, int] = {label: number for number, label in enumerate(labels)}
    columns = [np.array([place.get(vote, ABSTAINS) for vote in voter], dtype=np.int64) for voter in votes]
    return np.stack(columns, axis=1)


def fit_label_model(
    votes: Sequence[Sequence[str | None]], labels: Sequence[str], shares: Mapping[str, float] | None = None
) -> LabelModel:
    """Accuracies of the voters and probabilities of the labels.

    Args:
        votes: Per voter its vote on each row, None where it abstains.
        labels: What may be voted for, two at least.
        shares: How frequent the labels are; alike when not given.
    """
    names = sorted(labels)
    coded = code_votes(votes, names)
    prior = np.log([(shares or {}).get(name, 1.0 / len(names)) for name in names])
    cast = coded != ABSTAINS
    accuracies = np.full(coded.shape[1], BEGINNING)
    probabilities = weigh_votes(coded, accuracies, prior)
    met = cast & (cast.sum(axis=1, keepdims=True) > 1)
    alone = WEIGHT + (cast & ~met).sum(axis=0)
    for _ in range(ROUNDS):
        right = np.where(met, np.take_along_axis(probabilities, np.maximum(coded, 0), axis=1), 0).sum(axis=0)
        fitted = (right + BEGINNING * alone) / (met.sum(axis=0) + alone)
        moved = float(np.abs(fitted - accuracies).max(initial=0))
        accuracies = fitted
        probabilities = weigh_votes(coded, accuracies, prior)
        if moved < SETTLED:
            break
    return LabelModel(names, accuracies, probabilities)


def weigh_votes(votes: Array, accuracies: Array, prior: Array) -> Array:
    """Probabilities of the labels, rows x labels, given how often each voter is right."""
    scores = np.tile(prior, (len(votes), 1))
    weights = np.log(accuracies * (len(prior) - 1) / (1 - accuracies))
    for voter, weight in enumerate(weights.tolist()):
        rows = np.flatnonzero(votes[:, voter] != ABSTAINS)
        scores[rows, votes[rows, voter]] += weight
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = scores / scores.sum(axis=1, keepdims=True)
    return probabilities


def count_votes(votes: Array, size: int) -> Array:
    """How many vote for each label, rows x labels: the majority vote's view."""
    counts = np.zeros((len(votes), size), dtype=np.int64)
    for voter in range(votes.shape[1]):
        rows = np.flatnonzero(votes[:, voter] != ABSTAINS)
        counts[rows, votes[rows, voter]] += 1
    return counts
