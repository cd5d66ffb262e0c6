"""Precision, recall and F1 over labels: how well the intents of answers agree with those of their items.

The intent of an answer is read as for intent accuracy, see `tasks.evaluation.intents`; an answer without one is a miss
of its item's label. For each label, precision is the share of answers with this intent that are right, recall the share
of its items that are found, F1 = 2PR / (P + R). ``macro`` is the plain mean over the labels of the held-out items, so
that rare labels count as much as frequent ones; ``weighted`` weighs each by its items. The values are scikit-learn's
(``zero_division=0``). They are scores of a set: in each resample they are computed anew, over the labels that are in
it. The value of a single item is whether it is right.

Example:
    Items a, a, b and answers a, b, b: F1 of a is 2/3, of b 2/3, macro F1 2/3; macro recall (1/2 + 1) / 2 = 3/4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.evaluation.metrics.labels.intent_accuracy import why_no_intents
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Floats, Scores
    from tasks.evaluation.outcomes import Outcome


class _LabelScore(Section):
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return why_no_intents(evidence)

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores, Tally

        if evidence.intents is None:
            raise PipelineError(
                f"{type(self).__name__}: no labels to fit the intent classifier on; remove it from evaluation.metrics"
            )
        labels = [item.label for item in evidence.items]
        names = sorted({label for label in labels if label is not None})
        places = {name: place for place, name in enumerate(names)}
        # Items of a label, those found, and answers with its intent.
        counts = np.zeros((len(labels), 3, len(names)))
        right = np.zeros(len(labels))
        for row, (label, found) in enumerate(zip(labels, evidence.intents.classify(outcome.answers), strict=True)):
            if label is None:
                continue
            counts[row, 0, places[label]] = 1
            right[row] = counts[row, 1, places[label]] = float(found == label)
            if found in places:
                counts[row, 2, places[found]] += 1
        known = np.array([float(label is not None) for label in labels])
        return Scores(right, known, Tally(counts.reshape(len(labels), -1), self.combine))

    def combine(self, sums: Floats) -> Floats:
        """The score from sums of (items, found, answered) of all labels."""
        import numpy as np

        items, found, answered = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.average(items, np.nan_to_num(self.of_label(items, found, answered)))

    def of_label(self, items: Floats, found: Floats, answered: Floats) -> Floats:
        """The score of each label; not a number where nothing is divided by nothing."""
        return 2 * found / (items + answered)

    def average(self, items: Floats, values: Floats) -> Floats:
        """The mean over the labels that are there."""
        import numpy as np

        return np.asarray(np.where(items > 0, values, 0).sum(axis=-1) / (items > 0).sum(axis=-1), dtype=np.float64)


class MacroF1(_LabelScore):
    """Mean of the labels' F1; higher is better."""

    name: Literal["macro_f1"] = "macro_f1"
    title: ClassVar[str] = "Macro F1"


class WeightedF1(_LabelScore):
    """Mean of the labels' F1, weighted by their items; higher is better."""

    name: Literal["weighted_f1"] = "weighted_f1"
    title: ClassVar[str] = "Weighted F1"

    def average(self, items: Floats, values: Floats) -> Floats:
        import numpy as np

        return np.asarray((items * values).sum(axis=-1) / items.sum(axis=-1), dtype=np.float64)


class MacroPrecision(_LabelScore):
    """Mean of the labels' precision; higher is better."""

    name: Literal["macro_precision"] = "macro_precision"
    title: ClassVar[str] = "Macro precision"

    def of_label(self, items: Floats, found: Floats, answered: Floats) -> Floats:
        return found / answered


class MacroRecall(_LabelScore):
    """Mean of the labels' recall; higher is better."""

    name: Literal["macro_recall"] = "macro_recall"
    title: ClassVar[str] = "Macro recall"

    def of_label(self, items: Floats, found: Floats, answered: Floats) -> Floats:
        return found / items
