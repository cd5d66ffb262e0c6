"""TF-IDF of character n-grams, reduced by a truncated singular value decomposition.

Source: McNamee and Mayfield 2004 on character n-grams for retrieval. For scripts without spaces and for noisy
spelling, where words are the wrong unit; about five times slower than words. Fitted on baseline and window
together, for the reason given in ``tfidf.py``.

Example: "parcel" and "parcle" share the n-grams "pa", "ar", "rc", "par", "arc"; as words they share nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.contracts.params import Section
from tasks.monitoring.sample import Array


class CharacterTfidf(Section):
    """TF-IDF of character n-grams, reduced to a few dimensions."""

    name: Literal["characters"] = "characters"
    dimensions: int = Field(32, ge=2, le=512, description="length of a vector")
    longest: int = Field(4, ge=2, le=8, description="longest n-gram, characters")
    maximum_features: int = Field(20_000, ge=100, description="size of the vocabulary, the most frequent n-grams first")

    def embed(self, texts: Sequence[str], seed: int) -> Array:
        """Unit vectors, texts x dimensions (fewer where the texts have fewer n-grams); zero for an empty text."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        if len(texts) < 3 or len(set("".join(texts).split())) < 3:
            return np.array([[float(bool(text.strip())), 0.0] for text in texts]).reshape(-1, 2)
        weights = TfidfVectorizer(
            analyzer="char",
            ngram_range=(1, self.longest),
            sublinear_tf=True,
            max_features=self.maximum_features,
        ).fit_transform(texts)
        dimensions = min(self.dimensions, min(weights.shape) - 1)
        vectors = np.asarray(TruncatedSVD(dimensions, random_state=seed).fit_transform(weights), dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Array = np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0)
        return unit
