"""The section ``card`` of ``params.yaml``: the owner's description of the data, and the size of the sample."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf

DEFAULT_EMBEDDER = Tfidf(dimensions=50, maximum_features=20_000)


class Card(Section):
    """The owner's description of the data, and settings of the measurements."""

    title: str = Field(default="Training data", min_length=1, description="name of the data")
    summary: str = Field(default="", description="what the data is and what it is for, in a few sentences")
    limits: tuple[str, ...] = Field(default=(), description="known limits, such as uses to avoid or missing cases")
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes; detected by lingua when empty")
    sample_rows: int = Field(
        default=1500,
        ge=100,
        le=20_000,
        description="maximum number of rows on which language, topics and quality are measured",
    )
    embedder: AnyEmbedder = Field(
        default=DEFAULT_EMBEDDER, description="model that embeds the prompts to cluster topics"
    )
