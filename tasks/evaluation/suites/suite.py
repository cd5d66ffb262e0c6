"""The interface of a suite: questions that every model is asked beside the held-out items, and how replies score.

A suite is a params section in a file of its own. It reads its questions from local files, every model gets the same
ones, and its measures are compared as metrics are: paired, resampled by cluster, with intervals. With the role
``guard`` the gate rules out a worsening of its first measure by more than the margin (non-inferiority), and anything
that is missing counts against the candidate; with ``shown`` it decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import Field, model_validator

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply
    from tasks.evaluation.metrics.metric import Scores

Role = Literal["guard", "shown"]
# What a suite may be called; its figures are logged under it, and MLflow takes no other characters.
TITLE = r"^\w[\w .:/-]*$"
T = TypeVar("T")


@dataclass(frozen=True)
class Measure:
    """A number that a suite gives.

    Attributes:
        title: Its name on the page.
        higher_is_better: Whether a larger score is better.
        bounded: Values lie between 0 and 1.
        exponentiated: The score is ``exp`` of the weighted mean.
    """

    title: str
    higher_is_better: bool = True
    bounded: bool = True
    exponentiated: bool = False
    per_token: ClassVar[bool] = False


@dataclass(frozen=True)
class SuiteScores:
    """The scores of one model's replies.

    Attributes:
        scores: Measure to values and weights, one per question in their order; weight 0 leaves a question out.
        failed: Key of a question to why it could not be scored; the gate does not pass over it.
    """

    scores: dict[str, Scores]
    failed: dict[str, str] = field(default_factory=dict)


class Suite(Protocol):
    """A plug-in: a params section that asks and scores.

    Attributes:
        name: Its name in ``params.yaml``.
        role: Whether the gate looks at it.
        margin: Worsening of the first measure that the gate has to rule out, in the measure's unit.
        items: Maximum number of questions.
    """

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def margin(self) -> float | None: ...
    @property
    def items(self) -> int: ...
    @property
    def key(self) -> str:
        """Its name among the suites of a run; no two have the same."""

    @property
    def measures(self) -> dict[str, Measure]:
        """What it measures, the decisive one first."""

    def read(self) -> list[Question]:
        """The questions, at most ``items`` of them, the same in every run.

        Raises:
            PipelineError: A file is missing or holds nothing that can be asked.
        """

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        """Score one model; `score_each` does it question by question."""


class SuiteSection(Section):
    """What the params of every suite hold."""

    items: int = Field(default=200, ge=1, description="maximum number of questions, selected by a hash of their keys")
    role: Role = Field(
        default="shown",
        description="guard: the gate rules out a worsening by more than margin; shown: it decides nothing",
    )
    margin: float | None = Field(
        default=None, ge=0, description="worsening of its first measure that a guard rules out, in the measure's unit"
    )

    @model_validator(mode="after")
    def _guards_have_margins(self) -> SuiteSection:
        if self.role == "guard" and self.margin is None:
            raise ValueError("role: guard has no margin; set margin, such as 0.02, or role: shown")
        if self.role == "shown" and self.margin is not None:
            raise ValueError(f"margin: {self.margin} is read by guards only; set role: guard or leave margin out")
        return self


def select_questions(found: Sequence[T], count: int, key: Callable[[T], str]) -> list[T]:
    """At most ``count`` of them by a hash of their keys, in the order they were found.

    The selection does not depend on their order, and new ones displace only as many old ones as they are.
    """
    if len(found) <= count:
        return list(found)
    ranks = [hashlib.sha256(f"suite:{key(one)}".encode()).digest() for one in found]
    kept = sorted(sorted(range(len(found)), key=ranks.__getitem__)[:count])
    return [found[place] for place in kept]


def score_each(
    questions: Sequence[Question],
    replies: Sequence[Reply],
    measures: Sequence[str],
    score: Callable[[Question, Reply], Mapping[str, float]],
) -> SuiteScores:
    """Score question by question: one on which ``score`` raises has failed, and the others go on.

    Args:
        questions: The questions.
        replies: One reply each.
        measures: Names of the measures.
        score: Gives the measures of a reply; one that it leaves out does not count for that question.
    """
    import numpy as np

    from tasks.evaluation.metrics.metric import Scores

    values = {name: np.zeros(len(questions)) for name in measures}
    weights = {name: np.zeros(len(questions)) for name in measures}
    failed: dict[str, str] = {}
    for place, (question, reply) in enumerate(zip(questions, replies, strict=True)):
        if reply.problem or reply.unfit:
            continue
        try:
            found: Mapping[str, Any] = score(question, reply)
        except Exception as error:  # noqa: BLE001 - whatever a scorer raises, the other questions are scored
            failed[question.key] = f"{type(error).__name__}: {error}"
            continue
        for name, value in found.items():
            values[name][place], weights[name][place] = value, 1.0
    return SuiteScores({name: Scores(values[name], weights[name]) for name in measures}, failed)
