"""Latent semantic analysis: TF-IDF weights of words, reduced by a truncated singular value decomposition.

Source: Deerwester et al. 1990. Deterministic, offline, a fraction of a second for 2,000 prompts.

It is fitted on baseline and window together, without knowing which row is which. Fitted on the baseline alone,
it would place every new row, drifted or not, closer to the origin than the rows it was fitted on, and unseen
words would be dropped, which gives false alarms and misses drift.

Example: ["where is my parcel", "my parcel is late", "reset the password"]: the first two have a cosine near 1 in
two dimensions, the third is at a right angle to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.contracts.params import Section
from tasks.monitoring.detectors.words import split_words
from tasks.monitoring.sample import Array


class WordTfidf(Section):
    """TF-IDF of words, reduced to a few dimensions."""

    name: Literal["tfidf"] = "tfidf"
    dimensions: int = Field(32, ge=2, le=512, description="length of a vector")

    def embed(self, texts: Sequence[str], seed: int) -> Array:
        """Unit vectors, texts x dimensions (fewer where the texts have fewer words); zero for an empty text."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = [split_words(text) for text in texts]
        if len(texts) < 3 or len({word for row in words for word in row}) < 3:
            return np.array([[float(bool(row)), 0.0] for row in words]).reshape(-1, 2)
        weights = TfidfVectorizer(analyzer=lambda row: row, sublinear_tf=True).fit_transform(words)
        dimensions = min(self.dimensions, min(weights.shape) - 1)
        vectors = np.asarray(TruncatedSVD(dimensions, random_state=seed).fit_transform(weights), dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Array = np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0)
        return unit
