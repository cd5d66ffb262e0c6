"""Votes of labelling functions, the labels that the label model derives from them, and their estimated accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.corpus.rows.rows import Listing
from tasks.corpus.weak_supervision.functions import Function
from tasks.corpus.weak_supervision.label_model import (
    ABSTAINS,
    LabelModel,
    code_votes,
    count_votes,
    fit_label_model,
)

Array = np.ndarray[Any, Any]
MAX_CONFLICTS = 30
NOT_AVAILABLE = "–"


@dataclass(frozen=True)
class WeakLabels:
    """Votes and the labels derived from them.

    Attributes:
        titles: Names of the functions.
        votes: Shape (rows, functions), label numbers, -1 where a function abstains.
        model: The fitted label model.
        chosen: The likeliest label of each row, None where all functions abstain.
        confidence: Its probability, 0 where all functions abstain.
    """

    titles: list[str]
    votes: Array
    model: LabelModel
    chosen: list[str | None]
    confidence: list[float]


def collect_votes(functions: Sequence[Function], texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
    """Every function's votes on the texts, by its title.

    Raises:
        PipelineError: Two functions have the same title, or a function fails.
    """
    votes: dict[str, list[str | None]] = {}
    for function in functions:
        for title, function_votes in function.vote(texts, root).items():
            if title in votes:
                raise PipelineError(f'labelling functions: two have the title "{title}"; rename one of them')
            votes[title] = function_votes
    return votes


def label_texts(votes: Mapping[str, Sequence[str | None]], shares: Mapping[str, float] | None = None) -> WeakLabels:
    """Derive a label for each text from the votes.

    Args:
        votes: Per function its vote on each text, None where it abstains.
        shares: Prior probability of each label; uniform when not given.

    Raises:
        PipelineError: Fewer than two labels have votes, or a label is missing in shares.
    """
    labels = sorted(
        {label for function_votes in votes.values() for label in function_votes if label is not None}
        | set(shares or {})
    )
    if len(labels) < 2:
        raise PipelineError(
            f"labelling functions: they vote for {labels or 'no label'}, but two labels are needed to weigh votes; "
            "add a function for another label, or correct the functions that never vote"
        )
    missing = [label for label in labels if label not in shares] if shares else []
    if missing:
        raise PipelineError(f"labelling functions: shares lack {', '.join(missing)}, for which functions vote; add it")
    model = fit_label_model(list(votes.values()), labels, shares)
    coded_votes = code_votes(list(votes.values()), labels)
    voted = (coded_votes != ABSTAINS).any(axis=1).tolist()
    best_labels = model.probabilities.argmax(axis=1).tolist()
    confidences = model.probabilities.max(axis=1).tolist()
    return WeakLabels(
        list(votes),
        coded_votes,
        model,
        [labels[number] if has_vote else None for number, has_vote in zip(best_labels, voted, strict=True)],
        [confidence if has_vote else 0.0 for confidence, has_vote in zip(confidences, voted, strict=True)],
    )


def code_gold(weak_labels: WeakLabels, gold: Sequence[str | None]) -> Array:
    """Numbers of the true labels, -1 where there is none; a label without votes gets the number after the last."""
    label_index = {label: number for number, label in enumerate(weak_labels.model.labels)}
    return np.array(
        [ABSTAINS if label is None else label_index.get(label, len(label_index)) for label in gold],
        dtype=np.int64,
    )


def tabulate(weak_labels: WeakLabels, gold: Sequence[str | None], min_confidence: float) -> tuple[Listing, ...]:
    """Tables of the functions, of their conflicts, and of the label model compared with majority vote.

    Args:
        weak_labels: Votes and labels.
        gold: True labels, None where not known.
        min_confidence: Minimum probability of an accepted label.
    """
    truth = code_gold(weak_labels, gold)
    return (
        _list_functions(weak_labels, truth),
        _list_conflicts(weak_labels),
        _compare_with_majority(weak_labels, truth, min_confidence),
    )


def _list_functions(weak_labels: WeakLabels, truth: Array) -> Listing:
    votes, labels = weak_labels.votes, weak_labels.model.labels
    voted = votes != ABSTAINS
    votes_per_text = voted.sum(axis=1)
    lines: list[tuple[str | int | float, ...]] = []
    for column, title in enumerate(weak_labels.titles):
        own_votes = voted[:, column]
        overlap = own_votes & (votes_per_text > 1)
        conflicting = (voted & (votes != votes[:, [column]])).any(axis=1) & own_votes
        has_gold = own_votes & (truth != ABSTAINS)
        accuracy = f"{(votes[has_gold, column] == truth[has_gold]).mean():.1%}" if has_gold.any() else NOT_AVAILABLE
        labels_voted = sorted({labels[vote] for vote in votes[own_votes, column].tolist()})
        lines.append(
            (
                title,
                ", ".join(labels_voted[:4]) + (f" and {len(labels_voted) - 4} more" if len(labels_voted) > 4 else "")
                or NOT_AVAILABLE,
                int(own_votes.sum()),
                f"{own_votes.mean():.1%}",
                f"{overlap.mean():.1%}",
                f"{conflicting.mean():.1%}",
                f"{weak_labels.model.accuracies[column]:.1%}" if own_votes.any() else NOT_AVAILABLE,
                accuracy,
                int(has_gold.sum()),
            )
        )
    return Listing(
        "Labelling functions",
        ("function", "labels", "votes", "coverage", "overlap", "conflict", "accuracy, estimated", "accuracy", "judged"),
        tuple(lines),
        note="Shares of all texts: those it votes on, those on which another votes too, those on which another votes "
        "otherwise. Estimated by agreement alone: votes that no other function meets count as 70% right. The accuracy "
        "beside it is that on the texts whose label is known.",
    )


def _list_conflicts(weak_labels: WeakLabels) -> Listing:
    voted = weak_labels.votes != ABSTAINS
    lines: list[tuple[str | int | float, ...]] = []
    for first in range(len(weak_labels.titles)):
        for second in range(first + 1, len(weak_labels.titles)):
            both_vote = voted[:, first] & voted[:, second]
            conflicts = int((both_vote & (weak_labels.votes[:, first] != weak_labels.votes[:, second])).sum())
            if conflicts:
                count = int(both_vote.sum())
                lines.append(
                    (
                        weak_labels.titles[first],
                        weak_labels.titles[second],
                        count,
                        conflicts,
                        f"{conflicts / count:.1%}",
                    )
                )
    lines.sort(key=lambda line: (-int(line[3]), str(line[0]), str(line[1])))
    return Listing(
        "Labelling functions in conflict",
        ("function", "against", "both vote", "votes differ", "share"),
        tuple(lines[:MAX_CONFLICTS]),
        note=f"The {MAX_CONFLICTS} pairs with most conflicts." if len(lines) > MAX_CONFLICTS else "",
    )


def measure_accuracy(weak_labels: WeakLabels, truth: Array) -> tuple[float, float, int]:
    """Accuracy of the label model and of majority vote on the texts with votes and a known label, and their number.

    A tie counts for majority vote with the probability that a random choice among the tied labels is right.
    """
    counts = count_votes(weak_labels.votes, len(weak_labels.model.labels))
    judged = np.flatnonzero((truth != ABSTAINS) & (counts.sum(axis=1) > 0))
    if not len(judged):
        return 0.0, 0.0, 0
    gold_index = np.minimum(truth[judged], counts.shape[1] - 1)
    is_voted_label = truth[judged] < counts.shape[1]
    has_most_votes = counts[judged] == counts[judged].max(axis=1, keepdims=True)
    majority = np.where(
        is_voted_label & has_most_votes[np.arange(len(judged)), gold_index], 1 / has_most_votes.sum(axis=1), 0.0
    )
    label_model = weak_labels.model.probabilities[judged].argmax(axis=1) == truth[judged]
    return float(label_model.mean()), float(majority.mean()), len(judged)


def _compare_with_majority(weak_labels: WeakLabels, truth: Array, min_confidence: float) -> Listing:
    counts = count_votes(weak_labels.votes, len(weak_labels.model.labels))
    voted = counts.sum(axis=1) > 0
    ties = voted & ((counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1)
    predicted = weak_labels.model.probabilities.argmax(axis=1)
    same_label = voted & ~ties & (counts.argmax(axis=1) == predicted)
    confident = voted & (np.array(weak_labels.confidence) >= min_confidence)
    model, majority, judged = measure_accuracy(weak_labels, truth)
    accuracies = (f"{model:.1%}", f"{majority:.1%}") if judged else (NOT_AVAILABLE, NOT_AVAILABLE)
    return Listing(
        "Label model and majority vote",
        ("labels by", "texts with a vote", "labelled", "undecided", "accuracy", "judged"),
        (
            (
                "label model",
                int(voted.sum()),
                int(confident.sum()),
                int((voted & ~confident).sum()),
                accuracies[0],
                judged,
            ),
            ("majority vote", int(voted.sum()), int((voted & ~ties).sum()), int(ties.sum()), accuracies[1], judged),
        ),
        note=f"They name the same label for {int(same_label.sum()):,} texts. The label model leaves undecided what is "
        f"less sure than {min_confidence:g}, majority vote leaves ties; for the accuracy both must decide, a tie by "
        f"chance. {int((~voted).sum()):,} texts have no vote.",
    )
