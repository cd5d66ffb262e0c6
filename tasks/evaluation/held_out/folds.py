"""K-fold cross-validation: every training row is a held-out item of a model that did not see it.

Of a small set a tenth is too little to decide with. With ``evaluation.folds: 5`` the training rows are dealt into five
folds; five models are trained with the params of the candidate, each on the other four folds, and each answers its own.
Rows of the test split are answered by the candidate itself, which was not trained on them. So all rows can be items.

Rows of one cluster of near duplicates, and rows with the same prompt, are in one fold, or a model would have seen its
items. Labels are spread evenly (scikit-learn's ``StratifiedGroupKFold``; labels with fewer rows than folds count as
one). The folds do not depend on the order of the rows.

**What that says.** It measures training with these params, a little pessimistically: each of its models has seen
``(k - 1) / k`` of the rows that the released one has. The answers of a fold share a model, and two folds share most of
what their models were trained on, so the items are not independent; no unbiased estimate of the variance exists
(Bengio and Grandvalet, JMLR 2004), and intervals that take them for independent are too narrow (Bates, Hastie and
Tibshirani, "Cross-validation: what does it estimate and how well does it do it?", JASA 2023). Every interval is
therefore widened by the factor of Nadeau and Bengio ("Inference for the Generalization Error", Machine Learning 2003),
whose corrected variance of the mean over k folds is ``(1 / k + test / train) s^2``, ``test / train = 1 / (k - 1)``::

    widening(k) = sqrt(1 + k / (k - 1))        1.50 for k = 5, 1.45 for k = 10

**The champion** may have been trained on the same rows. It answers a row that it has not seen itself; for a row that it
has seen its own answer from the folds counts, which its release keeps. A row that it has seen without such an answer
counts for no model.

Example:
    300 rows, 30 of them test: 270 rows in five folds of 54; five trainings on 216 rows each; 300 items, which decide
    like 300 / 1.5^2 = 133 independent ones, and not like the 30 of the test split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.contracts.errors import PipelineError
from tasks.evaluation.decisions.reuse import selection_key
from tasks.evaluation.held_out.prompts import fold_turns

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """How the training rows are dealt.

    Attributes:
        count: Number of folds; 0: there are none, and the test split alone has items.
        of_row: The fold of each training row, from 0.
        of_item: The fold of each training row by its id.
    """

    count: int = 0
    of_row: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)
    of_item: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def figures(self) -> dict[str, float]:
        if not self.count:
            return {}
        return {"folds": float(self.count), "smallest": float(np.bincount(self.of_row, minlength=self.count).min())}

    @property
    def widening(self) -> float:
        """By how much intervals over all folds are wider than those of independent items."""
        return find_widening(self.count)

    def leave_out(self, fold: int, train: pa.Table, answers: pa.Table) -> tuple[pa.Table, pa.Table]:
        """What the model of a fold is trained on: the rows of the other folds, and the answer sets without those of
        its own.

        Args:
            fold: From 0.
            train: Training rows, `Example`.
            answers: Answer sets of all splits.
        """
        inside = pa.array(self.of_row == fold)
        clusters = pc.unique(train.filter(inside)["cluster"])
        own = pc.and_(pc.equal(answers["split"], "train"), pc.is_in(answers["cluster"], value_set=clusters))
        return train.filter(pc.invert(inside)), answers.filter(pc.invert(own))


NO_FOLDS = Folds()


def find_widening(count: int) -> float:
    """The factor of Nadeau and Bengio for so many folds; 1 for none."""
    return math.sqrt(1 + count / (count - 1)) if count else 1.0


def deal_folds(train: pa.Table, count: int | None) -> Folds:
    """Deal the training rows into folds.

    Args:
        train: Training rows, `Example`.
        count: Number of folds; None: none are made.

    Raises:
        PipelineError: There are too few independent rows.
    """
    if count is None:
        return NO_FOLDS
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    rows = train.select(["id", "messages", "label", "cluster"]).to_pylist()
    groups = join_rows(rows)
    if (found := len(set(groups))) < count:
        raise PipelineError(
            f"evaluation.folds: {count} folds of {found} independent rows; expected at least one in each; lower "
            "evaluation.folds or add rows"
        )
    order = sorted(range(len(rows)), key=lambda place: (selection_key(rows[place]["id"]), place))
    # A group is named by its first row in that order, so that the order of the file does not matter.
    first: dict[int, int] = {}
    ordered = [first.setdefault(groups[place], len(first)) for place in order]
    labels = merge_rare([rows[place]["label"] for place in order], count)
    splitter: Any = GroupKFold(count)
    if len(set(labels)) > 1:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    dealt = np.full(len(rows), -1, dtype=np.int64)
    for fold, (_, inside) in enumerate(splitter.split(np.zeros(len(rows)), labels, ordered)):
        dealt[np.array(order)[inside]] = fold
    if empty := count - len(set(dealt.tolist())):
        raise PipelineError(
            f"evaluation.folds: {empty} of {count} folds would be empty, as near duplicates stay together; lower "
            "evaluation.folds"
        )
    return Folds(count, dealt, dict(zip((row["id"] for row in rows), dealt.tolist(), strict=True)))


def join_rows(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """A number per row, the same for rows that have a cluster, an id or a folded prompt in common."""
    parent = list(range(len(rows)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    prompts = fold_turns([row["messages"][:-1] for row in rows])
    known: dict[tuple[str, str], int] = {}
    for place, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        names = [("cluster", row["cluster"]), ("id", row["id"]), *([("prompt", prompt)] if prompt else [])]
        for name in names:
            parent[root(place)] = root(known.setdefault(name, place))
    return [root(place) for place in range(len(rows))]


def merge_rare(labels: Sequence[str | None], count: int) -> list[str]:
    """Labels with fewer rows than folds as one; where that has too few rows too, all as one."""
    sizes: dict[str | None, int] = {}
    for label in labels:
        sizes[label] = sizes.get(label, 0) + 1
    merged = [label if label and sizes[label] >= count else "" for label in labels]
    return merged if not 0 < merged.count("") < count else [""] * len(labels)


def list_places(items: Iterable[str], folds: Folds) -> list[tuple[int | None, list[int]]]:
    """The places of the items by the fold whose model answers them; None: the candidate's, of the test split.

    Args:
        items: Ids of the items.
        folds: How the training rows are dealt.
    """
    places: dict[int | None, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(folds.of_item.get(item), []).append(place)
    return sorted(places.items(), key=lambda one: -1 if one[0] is None else one[0])
