"""What the card cannot measure, from ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf

LATENT = Tfidf(dimensions=50, maximum_features=20_000)


class Card(Section):
    """What the card cannot measure, and how much it measures."""

    title: str = Field(default="Training data", min_length=1, description="name of the data")
    summary: str = Field(default="", description="what the data is and what it is for, in a few sentences")
    limits: tuple[str, ...] = Field(default=(), description="what it must not be used for, or is known to lack")
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1; found by lingua when empty")
    sample_rows: int = Field(
        default=1500, ge=100, le=20_000, description="most rows on which language, topics and quality are measured"
    )
    embedder: AnyEmbedder = Field(default=LATENT, description="what makes vectors of prompts, to find topics")
