"""How rows whose label is probably wrong are treated: the section ``noise`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder


class Noise(Section):
    """How rows whose label is probably wrong are treated."""

    action: Literal["report", "drop"] = Field(
        default="report",
        description="report: list them in the report; drop: move them to the quarantine, each with the likeliest other "
        "label",
    )
    false_positives: float = Field(
        default=0.01, gt=0, le=0.2, description="maximum estimated share of the right labels that become suspects"
    )
    recall: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="the score limit is not raised once it finds this estimated share of the wrong labels",
    )
    embedder: AnyEmbedder | None = Field(
        default=None,
        description="a sentence model; a second classifier is fitted to its vectors, which finds more wrong labels in "
        "small data sets; null: the classifier of words alone",
    )
    seed: int = Field(default=0, description="of the folds, the classifier and the sampled wrong labels")
