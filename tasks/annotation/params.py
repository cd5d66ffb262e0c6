"""Section ``annotation`` of ``params.yaml``: what people are asked to label, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.reading.sources.weak import Inner

Resolve = Literal["majority", "label_model"]


class Annotation(Section):
    """For `heptune annotate`; no part of the stage."""

    pool: Inner | None = Field(default=None, description="source of the texts that may be labelled next")
    labels: tuple[str, ...] = Field(
        default=(), description="labels to choose from; those of the prepared rows and earlier imports when empty"
    )
    embedder: AnyEmbedder = Field(
        default=Tfidf(),
        description="what makes vectors of texts, to spread the choice; those of a sentence model also say what is "
        "unsure",
    )
    alike: float = Field(
        default=0.8,
        gt=0.5,
        le=1,
        description="Jaccard similarity of character n-grams from which a text counts as labelled or held out already",
    )
    resolve: Resolve = Field(
        default="majority",
        description="one label out of several people's: majority, or label_model, where people weigh by how often they "
        "are right",
    )
    seed: int = Field(default=0, description="of the choice")
