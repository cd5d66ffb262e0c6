"""Latent semantic analysis: TF-IDF weights of words or character n-grams, reduced by a truncated SVD.

Source: Deerwester et al. 1990; McNamee and Mayfield 2004 for character n-grams. Offline, deterministic, seconds for
10,000 texts. Similarity is learned from co-occurrence within these texts alone: a paraphrase in words that never
co-occur stays far away.

Texts to be compared must be embedded together: fitted to some of them, the projection would shrink the vectors of the
others and drop words outside its vocabulary.

Example: ``{name: tfidf, unit: characters}`` for scripts without spaces and for noisy spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.words import find_units, split_terms
from tasks.corpus.threads import on_one_thread

if TYPE_CHECKING:
    import numpy as np


class Tfidf(Section):
    """TF-IDF, reduced to a few dimensions."""

    name: Literal["tfidf"] = "tfidf"
    dimensions: int = Field(default=128, ge=2, le=1024, description="dimensions of a vector")
    unit: Literal["words", "terms", "characters"] = Field(
        default="words",
        description="words: unigrams and bigrams; terms: unigrams, with all numbers as one term; characters: n-grams "
        "of 2 to 4 characters inside words",
    )
    maximum_features: int = Field(
        default=50_000, ge=100, description="maximum size of the vocabulary, the most frequent units"
    )

    @property
    def title(self) -> str:
        """Description of the vectors for reports."""
        return "TF-IDF vectors"

    @on_one_thread
    def embed(self, texts: Sequence[str], seed: int = 0) -> np.ndarray[Any, Any]:
        """Unit vectors, shape (texts, dimensions); fewer dimensions for a small vocabulary, zero for a blank text.

        Texts without words, such as emoji, are taken character by character.
        """
        import numpy as np
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer_settings: dict[str, dict[str, Any]] = {
            "words": {"tokenizer": find_units, "token_pattern": None, "ngram_range": (1, 2)},
            "terms": {"analyzer": split_terms},
            "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
        }
        if not any(text.strip() for text in texts):
            return np.zeros((len(texts), 2), dtype=np.float32)
        weights = TfidfVectorizer(
            sublinear_tf=True, max_features=self.maximum_features, **vectorizer_settings[self.unit]
        ).fit_transform(texts)
        dimensions = min(self.dimensions, min(weights.shape) - 1)
        vectors = (
            weights.toarray()
            if dimensions < 2
            else reduce_dimensions(TruncatedSVD(dimensions, random_state=seed), weights)
        )
        return normalise_lengths(vectors)


def reduce_dimensions(svd: Any, weights: Any) -> np.ndarray[Any, Any]:
    """Reduce the columns of a sparse matrix by a truncated SVD."""
    import numpy as np

    # Identical texts have zero variance, by which scikit-learn divides.
    with np.errstate(invalid="ignore", divide="ignore"):
        reduced: np.ndarray[Any, Any] = svd.fit_transform(weights)
    return reduced


def normalise_lengths(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows divided by their Euclidean norms; zero rows stay zero."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0).astype(np.float32)
    return unit
