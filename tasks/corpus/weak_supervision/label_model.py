"""A label model: one label out of many votes, weighed by accuracies that are estimated from the agreement of voters.

The model of Dawid and Skene (1979) with one accuracy per voter (Zhang et al. 2016): a voter that does not abstain is
right with the probability of its accuracy, and otherwise votes for any other label with equal probability; voters err
independently. Labels and accuracies are fitted by expectation maximisation, starting from an accuracy of 0.7. Ten
pseudo-votes with that accuracy regularise every estimate, and so does every vote on a row where nobody else votes:
there is no agreement to learn from, and the few rows that a voter shares with others must not decide about all its
votes. The fit is deterministic.

The probability of a label is a weighted vote: a voter of accuracy a among K labels has the weight
log(a (K - 1) / (1 - a)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ABSTAINS = -1
INITIAL_ACCURACY, INITIAL_VOTES = 0.7, 10.0
MAX_ITERATIONS, TOLERANCE = 500, 1e-7


@dataclass(frozen=True)
class LabelModel:
    """A fitted label model and its predictions.

    Attributes:
        labels: The labels, sorted.
        accuracies: Estimated accuracy of each voter on the rows on which it votes.
        probabilities: Shape (rows, labels); the prior shares of the labels on rows where nobody voted.
    """

    labels: list[str]
    accuracies: Array
    probabilities: Array


def code_votes(votes: Sequence[Sequence[str | None]], labels: Sequence[str]) -> Array:
    """Votes, a list per voter, as an array (rows, voters) of label numbers; abstentions are -1."""
    label_index: dict[str | None, int] = {label: number for number, label in enumerate(labels)}
    columns = [np.array([label_index.get(vote, ABSTAINS) for vote in voter], dtype=np.int64) for voter in votes]
    return np.stack(columns, axis=1)


def fit_label_model(
    votes: Sequence[Sequence[str | None]], labels: Sequence[str], shares: Mapping[str, float] | None = None
) -> LabelModel:
    """Fit accuracies of the voters and probabilities of the labels.

    Args:
        votes: Per voter its vote on each row, None where it abstains.
        labels: All labels, at least two.
        shares: Prior probability of each label; uniform when not given.
    """
    names = sorted(labels)
    coded_votes = code_votes(votes, names)
    prior = np.log([(shares or {}).get(name, 1.0 / len(names)) for name in names])
    voted = coded_votes != ABSTAINS
    accuracies = np.full(coded_votes.shape[1], INITIAL_ACCURACY)
    probabilities = weigh_votes(coded_votes, accuracies, prior)
    overlapping = voted & (voted.sum(axis=1, keepdims=True) > 1)
    prior_votes = INITIAL_VOTES + (voted & ~overlapping).sum(axis=0)
    for _ in range(MAX_ITERATIONS):
        expected_correct = np.where(
            overlapping, np.take_along_axis(probabilities, np.maximum(coded_votes, 0), axis=1), 0
        ).sum(axis=0)
        new_accuracies = (expected_correct + INITIAL_ACCURACY * prior_votes) / (overlapping.sum(axis=0) + prior_votes)
        change = float(np.abs(new_accuracies - accuracies).max(initial=0))
        accuracies = new_accuracies
        probabilities = weigh_votes(coded_votes, accuracies, prior)
        if change < TOLERANCE:
            break
    return LabelModel(names, accuracies, probabilities)


def weigh_votes(votes: Array, accuracies: Array, prior: Array) -> Array:
    """Probabilities of the labels, shape (rows, labels), given the accuracy of each voter."""
    scores = np.tile(prior, (len(votes), 1))
    weights = np.log(accuracies * (len(prior) - 1) / (1 - accuracies))
    for voter, weight in enumerate(weights.tolist()):
        rows = np.flatnonzero(votes[:, voter] != ABSTAINS)
        scores[rows, votes[rows, voter]] += weight
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = scores / scores.sum(axis=1, keepdims=True)
    return probabilities


def count_votes(votes: Array, size: int) -> Array:
    """Number of votes for each label, shape (rows, labels), as majority vote counts them."""
    counts = np.zeros((len(votes), size), dtype=np.int64)
    for voter in range(votes.shape[1]):
        rows = np.flatnonzero(votes[:, voter] != ABSTAINS)
        counts[rows, votes[rows, voter]] += 1
    return counts
