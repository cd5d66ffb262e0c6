"""Calibration: whether a model is right as often as it is sure.

Expected calibration error (Naeini et al., AAAI 2015; Guo et al., arXiv:1706.04599), with answers in bins of equal width
by confidence::

    ECE = sum over bins of  n_b / N x |share right_b - mean confidence_b|

and the Brier score (Monthly Weather Review 1950), the mean of ``(confidence - right)^2``. What the confidence is, the
probability of the chosen label or the mean one of the answer's tokens, says `tasks.evaluation.probes.confidence`.
An answer is right where its label is chosen; else by its intent where there are labels, else where it is the reference,
case, punctuation and articles aside. ECE is a score of a set, computed anew in each resample; for one item its value is
|confidence - right|. The page shows it as a reliability plot.

Example:
    Confidences 0.9, 0.9, 0.6 and right, wrong, right: bins (0.5 right, 0.9 sure, 2) and (1 right, 0.6 sure, 1), ECE
    2/3 x 0.4 + 1/3 x 0.4 = 0.4; Brier (0.01 + 0.81 + 0.16) / 3 = 0.327.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Floats, Scores
    from tasks.evaluation.outcomes import Outcome
    from tasks.evaluation.probes.confidence import ConfidenceProbe

BINS = 10


class _Calibration(Section):
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    @property
    def probe(self) -> ConfidenceProbe:
        from tasks.evaluation.probes.confidence import ConfidenceProbe

        return ConfidenceProbe()

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None


class CalibrationError(_Calibration):
    """Expected calibration error; lower is better."""

    name: Literal["calibration_error"] = "calibration_error"
    title: ClassVar[str] = "Calibration error"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores, Tally

        confidence, right = read_confidence(evidence, outcome)
        counts = np.zeros((len(right), 3, BINS))
        places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        rows = np.arange(len(right))
        counts[rows, 0, places], counts[rows, 1, places], counts[rows, 2, places] = 1.0, confidence, right
        tally = Tally(counts.reshape(len(right), -1), combine_bins)
        return Scores(np.abs(confidence - right), np.ones(len(right)), tally)


class BrierScore(_Calibration):
    """Mean squared distance of confidence and being right; lower is better."""

    name: Literal["brier"] = "brier"
    title: ClassVar[str] = "Brier score"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        confidence, right = read_confidence(evidence, outcome)
        return Scores((confidence - right) ** 2, np.ones(len(right)))


def combine_bins(sums: Floats) -> Floats:
    """The error from sums of (answers, confidences, right ones) in each bin, (..., 3 x bins) to (...)."""
    import numpy as np

    answers, sure, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
    return np.asarray(np.abs(right - sure).sum(axis=-1) / answers.sum(axis=-1), dtype=np.float64)


def read_confidence(evidence: Evidence, outcome: Outcome) -> tuple[Floats, Floats]:
    """Confidence and whether it is right, 0 or 1, of each item.

    Raises:
        PipelineError: The model was not asked how sure it is.
    """
    import numpy as np

    from tasks.evaluation.metrics.words.exact_match import ExactMatch
    from tasks.evaluation.probes.confidence import LABELS, ConfidenceProbe

    measured = outcome.probes.get(ConfidenceProbe().key)
    if measured is None:
        raise PipelineError(
            f"{outcome.model}: how sure it is was not measured; score a model with `heptune evaluate`, not texts alone"
        )
    confidence = np.array(measured["confidence"], dtype=np.float64)
    if measured["of"] == LABELS:
        names = {item.label: item.reference for item in evidence.items if item.prompt}
        right = [
            float(names.get(i.label) == chosen) for i, chosen in zip(evidence.items, measured["chosen"], strict=True)
        ]
        return confidence, np.array(right)
    if evidence.intents is not None and all(item.label is not None for item in evidence.items if item.prompt):
        found = evidence.intents.classify(outcome.answers)
        return confidence, np.array([float(n == i.label) for n, i in zip(found, evidence.items, strict=True)])
    return confidence, ExactMatch(form="normalised").score(evidence, outcome).values
