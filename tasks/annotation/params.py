"""Section ``annotation`` of ``params.yaml``: the texts that people label, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.reading.sources.weak import InnerSource

Resolve = Literal["majority", "label_model"]


class Annotation(Section):
    """Settings of `heptune annotate`, which is not part of a stage."""

    pool: InnerSource | None = Field(default=None, description="source of the unlabelled texts")
    labels: tuple[str, ...] = Field(
        default=(), description="labels to choose from; when empty, those of the prepared rows and earlier imports"
    )
    embedder: AnyEmbedder = Field(
        default=Tfidf(),
        description="embedder for clustering the candidates; a sentence model's embeddings are also the features of "
        "the classifier",
    )
    alike: float = Field(
        default=0.8,
        gt=0.5,
        le=1,
        description="Jaccard similarity of character n-grams from which a text duplicates a labelled or held-out one",
    )
    resolve: Resolve = Field(
        default="majority",
        description="how the labels of several annotators become one: majority, or label_model, which weights "
        "annotators by their estimated accuracy",
    )
    seed: int = Field(default=0, description="seed of the choice")
