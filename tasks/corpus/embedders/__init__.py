"""Embedders, which turn texts into unit vectors for comparisons by meaning, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.corpus.embedders.sentence_transformers import SentenceTransformers
from tasks.corpus.embedders.tfidf import Tfidf

AnyEmbedder = Annotated[Tfidf | SentenceTransformers, Field(discriminator="name")]
