"""What judges have in common: the models that judge, how often they are asked, and how far they have to be right.

A judge's verdict is read from the log-probabilities of the labels it may answer with, where the engine gives them,
which costs one token and says how sure the judge is; else from a JSON object with a reason before the verdict. What
cannot be read is asked for again. An item without a verdict counts for no model; where more than ``unjudged_at_most``
of the items have none, the judge has failed, and nothing that it was to decide about is promoted.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.language_models.writers import AnyWriter
from tasks.language_models.writers.cost import Price


class NoVerdict(PipelineError):
    """A judge that may decide nothing, as it gave too few verdicts or agrees too little with people; says why."""


HowRead = Literal["auto", "probabilities", "text"]


class JudgingModel(Section):
    """A model that judges, and what it costs."""

    writer: AnyWriter = Field(description="the model; temperature: 0 for a server, so that verdicts repeat")
    price: Price = Field(default=Price(), description="its price, to report what judging costs")


class StatedAgreement(Section):
    """Pairs of answers of which people said which is better, and how far the judge has to agree with them."""

    file: Annotated[str, Reads("file")] = Field(
        description="JSON or JSON Lines, also .gz: rows of input, output_1, output_2 and label, 1 or 2 for the better"
    )
    at_least: float = Field(
        gt=0.5, lt=1, description="share of pairs that the judge must get right, by the lower end of its interval"
    )
    items: int = Field(default=200, ge=2, description="most pairs, selected by a hash of their content")


class JudgeSection(Section):
    """The fields of every judge."""

    panel: tuple[JudgingModel, ...] = Field(
        min_length=1, description="models that judge; of several the mean verdict counts, and their agreement is told"
    )
    criteria: str = Field(
        default="helpful, correct, and no longer than needed", min_length=1, description="what good answers are"
    )
    shows_reference: bool = Field(default=False, description="the judge also reads the item's reference answer")
    verdict: HowRead = Field(
        default="auto",
        description="probabilities: of the labels, one token a verdict; text: JSON with a reason; auto: probabilities "
        "where the engine gives them",
    )
    attempts: int = Field(default=3, ge=1, le=10, description="times a verdict that cannot be read is asked for")
    unjudged_at_most: float = Field(
        default=0.05, ge=0, lt=1, description="share of items without a verdict above which the judge decides nothing"
    )
    agreement: StatedAgreement | None = Field(
        default=None, description="agreement with people, measured before the rest; a judge needs it to decide"
    )

    # Whether two answers are shown at once, so that their order may matter.
    shows_pairs: ClassVar[bool]
    name: str
