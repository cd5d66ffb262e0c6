"""Intent accuracy: the answer belongs to the intent its item is labelled with.

An answer that is a label (or a label with spaces) has that intent; any other is classified by a small
model fitted on the training split's answers, see `tasks.evaluation.intents`. An empty answer and one from which the
classifier abstains (gibberish, another language or subject) has no intent and counts as wrong. Good for help desks
and assistants, where many wordings are correct but only one intent is. Limited by the classifier,
whose accuracy on the reference answers is reported beside it as the ceiling; it looks at words, not at whether what
they say is true.

Example:
    The item is labelled ``track_order``. "Your parcel leaves today." is classified as ``track_order``: 1;
    "We refund you today." as ``get_refund``: 0; "the of and" as nothing: 0; an empty answer: 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class IntentAccuracy(Section):
    """Share of labelled items whose answer has the item's intent; higher is better."""

    name: Literal["intent_accuracy"] = "intent_accuracy"
    title: ClassVar[str] = "Intent accuracy"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return why_no_intents(evidence)

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        if evidence.intents is None:
            raise PipelineError(
                "intent_accuracy: no labels to fit the intent classifier on; remove it from evaluation.metrics"
            )
        predicted = evidence.intents.classify(outcome.answers)
        labels = [item.label for item in evidence.items]
        values = [float(label is not None and p == label) for label, p in zip(labels, predicted, strict=True)]
        return Scores(np.array(values), np.array([float(label is not None) for label in labels]))


def why_no_intents(evidence: Evidence) -> str | None:
    """Why intents cannot be compared with labels; None where they can."""
    if evidence.intents is None:
        return "the training split has fewer than two labels"
    if all(item.label is None for item in evidence.items):
        return "no held-out item has a label"
    return None
