"""What becomes of rows whose label is probably wrong: the section ``noise`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder


class Noise(Section):
    """What becomes of rows whose label is probably wrong."""

    action: Literal["report", "drop"] = Field(
        default="report", description="report: show them; drop: set them aside, each with the label that fits better"
    )
    false_positives: float = Field(
        default=0.01, gt=0, le=0.2, description="largest estimated share of the right labels that are suspected too"
    )
    recall: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="no more is suspected once this share of wrong labels is found, as estimated",
    )
    embedder: AnyEmbedder | None = Field(
        default=None,
        description="a sentence model whose vectors a second classifier reads beside that of the words, which finds "
        "more where rows are few; null: the words alone",
    )
    seed: int = Field(default=0, description="of the parts, the classifier and the wrong labels looked up")
