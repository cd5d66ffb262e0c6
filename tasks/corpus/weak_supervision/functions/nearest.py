"""Likeness to given examples: a text has the label of the nearest example, where that is near enough.

Good for: a handful of typical texts of each label and no rule to name. The vectors are those of an embedder; with the
one without a model, TF-IDF reduced over these very texts, likeness is that of words.

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


class Nearest(Section):
    """The label of the nearest example."""

    name: Literal["nearest"] = "nearest"
    title: str = Field(default="", description="its name in the tables; nearest when empty")
    examples: dict[str, tuple[str, ...]] = Field(min_length=1, description="label to texts that have it")
    least: float = Field(default=0.5, gt=0, le=1, description="cosine from which an example is near enough")
    embedder: AnyEmbedder = Field(default=Tfidf(), description="what makes vectors of texts")

    @field_validator("examples")
    @classmethod
    def _say_something(cls, examples: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        empty = [label for label, texts in examples.items() if not any(text.strip() for text in texts)]
        if empty:
            raise ValueError(f"no example text for {', '.join(empty)}")
        return examples

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        import numpy as np

        labels = [label for label, given in self.examples.items() for _ in given]
        given = [text for texts in self.examples.values() for text in texts]
        vectors = self.embedder.embed([*given, *texts])
        cosines = vectors[len(given) :] @ vectors[: len(given)].T
        best = cosines.argmax(axis=1)
        near = cosines[np.arange(len(texts)), best] >= self.least
        votes = [labels[place] if hit else None for place, hit in zip(best.tolist(), near.tolist(), strict=True)]
        return {self.title or "nearest": votes}
