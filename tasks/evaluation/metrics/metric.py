"""The interface of a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.intents import IntentClassifier
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.reading import Reading
from tasks.evaluation.outcomes import Outcome

if TYPE_CHECKING:
    from tasks.evaluation.judges.judged import JudgedAnswers

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What a score over the whole set is computed from, where it is no mean over items: BLEU, F1 over labels.

    Attributes:
        counts: What each item adds, (items, kinds of counts).
        combine: Sums of counts, (..., kinds), to scores, (...).
    """

    counts: Floats
    combine: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Scores:
    """Values of one metric for one model, one per item.

    Attributes:
        values: The item's value.
        weights: How much the item counts in the mean; 0 leaves it out.
        tally: The score of a set, where it is not the mean of the values; these then only show single items.
    """

    values: Floats
    weights: Floats
    tally: Tally | None = None

    @property
    def items(self) -> int:
        return int((self.weights > 0).sum())

    def part(self, inside: NDArray[np.bool_]) -> Scores:
        """Those of some of the items."""
        tally = None if self.tally is None else replace(self.tally, counts=self.tally.counts[inside])
        return Scores(self.values[inside], self.weights[inside], tally)


@dataclass(frozen=True)
class Evidence:
    """What a metric may use besides a model's answers.

    Attributes:
        items: The held-out items.
        intents: Classifier of the intent of an answer; None when the data has no labels.
        vectors: The models were asked for vectors of texts and for nothing else.
        rewards: The same of rewards for the references.
        judged: What judges say of the models' answers, by the judge's name.
        kept: Where metrics that ask a judge keep its verdicts; None keeps none.
    """

    items: tuple[Item, ...]
    intents: IntentClassifier | None
    vectors: bool = False
    rewards: bool = False
    judged: Mapping[str, JudgedAnswers] = field(default_factory=dict)
    kept: Path | None = None


class Metric(Protocol):
    """A plug-in: a params section that scores answers.

    Attributes:
        name: Its name in ``params.yaml``.
        title: Its name on the page.
        higher_is_better: Whether a larger score is better.
        bounded: Values lie between 0 and 1.
        per_token: The score is per token, so only models with the same tokenizer can be compared.
        looks_at: What of a model it scores; answers say nothing of documents, which have no prompt.
        exponentiated: The score is ``exp`` of the weighted mean, not the mean itself.
    """

    title: ClassVar[str]
    higher_is_better: ClassVar[bool]
    bounded: ClassVar[bool]
    per_token: ClassVar[bool]
    looks_at: ClassVar[Reading]
    exponentiated: ClassVar[bool]

    @property
    def name(self) -> str: ...

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        """Why the metric does not apply to these items; None where it does."""

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        """One value and weight per item."""


def why_not_applicable(metric: Metric, evidence: Evidence) -> str | None:
    """Why a metric does not apply to these items, documents among them; None where it does."""
    if evidence.vectors and metric.looks_at != "vectors":
        return "the run is for vectors of texts, and no model was asked for answers"
    if metric.looks_at == "vectors" and not evidence.vectors:
        return "the run is not for vectors of texts (objective: contrastive)"
    if evidence.rewards and metric.looks_at != "rewards":
        return "the run is for a reward model, and no model was asked for answers"
    if metric.looks_at == "rewards" and not evidence.rewards:
        return "the run is not for a reward model (objective: reward_model or process_reward_model)"
    if metric.looks_at == "answers" and not any(item.prompt for item in evidence.items):
        return "the held-out items are documents, which have no answers"
    return metric.why_not_applicable(evidence)


def score_items(metric: Metric, evidence: Evidence, outcome: Outcome) -> Scores:
    """One value and weight per item; documents do not count where a metric reads answers."""
    scores = metric.score(evidence, outcome)
    answered = np.array([float(bool(item.prompt)) for item in evidence.items])
    if metric.looks_at != "answers" or answered.all():
        return scores
    tally = scores.tally and replace(scores.tally, counts=scores.tally.counts * answered[:, None])
    return Scores(scores.values, scores.weights * answered, tally)
