"""What labelling functions say about texts, and how far they can be believed."""

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
SHOWN_PAIRS = 30
BLANK = "–"


@dataclass(frozen=True)
class WeakLabels:
    """Votes and what became of them.

    Attributes:
        titles: Names of the functions.
        votes: Rows x functions, places among the labels, -1 where one abstains.
        model: The fitted label model.
        chosen: Per row the likeliest label, None where all abstain.
        confidence: Per row its probability, 0 where all abstain.
    """

    titles: list[str]
    votes: Array
    model: LabelModel
    chosen: list[str | None]
    confidence: list[float]


def collect_votes(functions: Sequence[Function], texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
    """Every function's votes on the texts, by its title.

    Raises:
        PipelineError: Two functions have one title, or one of them fails.
    """
    votes: dict[str, list[str | None]] = {}
    for function in functions:
        for title, cast in function.vote(texts, root).items():
            if title in votes:
                raise PipelineError(f'labelling functions: two are called "{title}"; give one a title of its own')
            votes[title] = cast
    return votes


def label_texts(votes: Mapping[str, Sequence[str | None]], shares: Mapping[str, float] | None = None) -> WeakLabels:
    """Labels out of votes.

    Args:
        votes: Per function its vote on each text, None where it abstains.
        shares: How frequent the labels are; alike when not given.

    Raises:
        PipelineError: Fewer than two labels are voted for, or shares lack one.
    """
    labels = sorted({label for cast in votes.values() for label in cast if label is not None} | set(shares or {}))
    if len(labels) < 2:
        raise PipelineError(
            f"labelling functions: they vote for {labels or 'nothing'}, and two labels are needed to weigh votes; "
            "add a function for another label, or correct those whose votes are missing"
        )
    lacking = [label for label in labels if label not in shares] if shares else []
    if lacking:
        raise PipelineError(f"labelling functions: shares lack {', '.join(lacking)}, which functions vote for; add it")
    model = fit_label_model(list(votes.values()), labels, shares)
    coded = code_votes(list(votes.values()), labels)
    voted = (coded != ABSTAINS).any(axis=1).tolist()
    best = model.probabilities.argmax(axis=1).tolist()
    sure = model.probabilities.max(axis=1).tolist()
    return WeakLabels(
        list(votes),
        coded,
        model,
        [labels[place] if seen else None for place, seen in zip(best, voted, strict=True)],
        [value if seen else 0.0 for value, seen in zip(sure, voted, strict=True)],
    )


def code_gold(found: WeakLabels, gold: Sequence[str | None]) -> Array:
    """Places of the true labels, -1 where there is none; a label nobody votes for is beyond the last place."""
    place = {label: number for number, label in enumerate(found.model.labels)}
    return np.array(
        [ABSTAINS if label is None else place.get(label, len(place)) for label in gold],
        dtype=np.int64,
    )


def tabulate(found: WeakLabels, gold: Sequence[str | None], least: float) -> tuple[Listing, ...]:
    """The functions, their conflicts, and the label model beside majority vote.

    Args:
        found: Votes and labels.
        gold: True labels, None where not known.
        least: Confidence from which a label is taken.
    """
    truth = code_gold(found, gold)
    return (_list_functions(found, truth), _list_conflicts(found), _compare(found, truth, least))


def _list_functions(found: WeakLabels, truth: Array) -> Listing:
    votes, labels = found.votes, found.model.labels
    cast = votes != ABSTAINS
    others = cast.sum(axis=1)
    lines: list[tuple[str | int | float, ...]] = []
    for place, title in enumerate(found.titles):
        mine = cast[:, place]
        overlap = mine & (others > 1)
        differs = (cast & (votes != votes[:, [place]])).any(axis=1) & mine
        judged = mine & (truth != ABSTAINS)
        real = f"{(votes[judged, place] == truth[judged]).mean():.1%}" if judged.any() else BLANK
        named = sorted({labels[vote] for vote in votes[mine, place].tolist()})
        lines.append(
            (
                title,
                ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "") or BLANK,
                int(mine.sum()),
                f"{mine.mean():.1%}",
                f"{overlap.mean():.1%}",
                f"{differs.mean():.1%}",
                f"{found.model.accuracies[place]:.1%}" if mine.any() else BLANK,
                real,
                int(judged.sum()),
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


def _list_conflicts(found: WeakLabels) -> Listing:
    cast = found.votes != ABSTAINS
    lines: list[tuple[str | int | float, ...]] = []
    for first in range(len(found.titles)):
        for second in range(first + 1, len(found.titles)):
            both = cast[:, first] & cast[:, second]
            against = int((both & (found.votes[:, first] != found.votes[:, second])).sum())
            if against:
                count = int(both.sum())
                lines.append((found.titles[first], found.titles[second], count, against, f"{against / count:.1%}"))
    lines.sort(key=lambda line: (-int(line[3]), str(line[0]), str(line[1])))
    return Listing(
        "Labelling functions in conflict",
        ("function", "against", "both vote", "votes differ", "share"),
        tuple(lines[:SHOWN_PAIRS]),
        note=f"The {SHOWN_PAIRS} pairs with most conflicts." if len(lines) > SHOWN_PAIRS else "",
    )


def measure_accuracy(found: WeakLabels, truth: Array) -> tuple[float, float, int]:
    """Accuracy of the label model and of majority vote on the texts with votes and a known label, and their number.

    A tie counts for majority vote as far as chance would break it rightly.
    """
    counts = count_votes(found.votes, len(found.model.labels))
    judged = np.flatnonzero((truth != ABSTAINS) & (counts.sum(axis=1) > 0))
    if not len(judged):
        return 0.0, 0.0, 0
    known = np.minimum(truth[judged], counts.shape[1] - 1)
    among = truth[judged] < counts.shape[1]
    top = counts[judged] == counts[judged].max(axis=1, keepdims=True)
    chance = np.where(among & top[np.arange(len(judged)), known], 1 / top.sum(axis=1), 0.0)
    model = found.model.probabilities[judged].argmax(axis=1) == truth[judged]
    return float(model.mean()), float(chance.mean()), len(judged)


def _compare(found: WeakLabels, truth: Array, least: float) -> Listing:
    counts = count_votes(found.votes, len(found.model.labels))
    voted = counts.sum(axis=1) > 0
    ties = voted & ((counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1)
    best = found.model.probabilities.argmax(axis=1)
    same = voted & ~ties & (counts.argmax(axis=1) == best)
    sure = voted & (np.array(found.confidence) >= least)
    model, majority, judged = measure_accuracy(found, truth)
    shown = (f"{model:.1%}", f"{majority:.1%}") if judged else (BLANK, BLANK)
    return Listing(
        "Label model and majority vote",
        ("labels by", "texts with a vote", "labelled", "undecided", "accuracy", "judged"),
        (
            ("label model", int(voted.sum()), int(sure.sum()), int((voted & ~sure).sum()), shown[0], judged),
            ("majority vote", int(voted.sum()), int((voted & ~ties).sum()), int(ties.sum()), shown[1], judged),
        ),
        note=f"They name the same label for {int(same.sum()):,} texts. The label model leaves undecided what is less "
        f"sure than {least:g}, majority vote leaves ties; for the accuracy both must decide, a tie by chance. "
        f"{int((~voted).sum()):,} texts have no vote.",
    )
