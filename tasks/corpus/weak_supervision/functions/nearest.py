"""Nearest example: a text gets the label of the most similar example, if the similarity reaches a threshold.

Good for: a handful of typical texts per label when no keyword or pattern describes them. The vectors come from an
embedder; with the default, TF-IDF reduced over these texts, similarity is that of the vocabulary.

Example: ``{name: nearest, examples: {refund: ["I want my money back"], parcel: ["where is my parcel"]}, least: 0.6}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.threads import on_one_thread


class Nearest(Section):
    """The label of the nearest example."""

    name: Literal["nearest"] = "nearest"
    title: str = Field(default="", description="its name in the tables; nearest when empty")
    examples: dict[str, tuple[str, ...]] = Field(min_length=1, description="label to example texts")
    least: float = Field(default=0.5, gt=0, le=1, description="minimum cosine similarity to the nearest example")
    embedder: AnyEmbedder = Field(default=Tfidf(), description="computes the vectors of the texts")

    @field_validator("examples")
    @classmethod
    def _check_examples(cls, examples: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        empty = [label for label, texts in examples.items() if not any(text.strip() for text in texts)]
        if empty:
            raise ValueError(f"no example text for {', '.join(empty)}")
        return examples

    @on_one_thread
    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        import numpy as np

        labels = [label for label, example_texts in self.examples.items() for _ in example_texts]
        example_texts = [text for texts in self.examples.values() for text in texts]
        vectors = self.embedder.embed([*example_texts, *texts])
        cosines = vectors[len(example_texts) :] @ vectors[: len(example_texts)].T
        nearest = cosines.argmax(axis=1)
        near_enough = cosines[np.arange(len(texts)), nearest] >= self.least
        votes = [
            labels[place] if is_near else None
            for place, is_near in zip(nearest.tolist(), near_enough.tolist(), strict=True)
        ]
        return {self.title or "nearest": votes}
