"""Latent semantic analysis: TF-IDF weights of words or of runs of characters, reduced by a truncated SVD.

Source: Deerwester et al. 1990; McNamee and Mayfield 2004 for runs of characters. Offline, deterministic, seconds for
10,000 texts. It knows words by the company they keep in these texts and by nothing else: a paraphrase in words that
never meet stays far away.

Texts that are to be compared are embedded together: fitted on some of them alone, it would place every other one
closer to the origin, and words that it has never seen would vanish.

Example: ``{name: tfidf, unit: characters}`` for scripts without spaces and for noisy spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.words import WORD, split_terms

if TYPE_CHECKING:
    import numpy as np


class Tfidf(Section):
    """TF-IDF, reduced to a few dimensions."""

    name: Literal["tfidf"] = "tfidf"
    dimensions: int = Field(default=128, ge=2, le=1024, description="length of a vector")
    unit: Literal["words", "terms", "characters"] = Field(
        default="words",
        description="words: single ones and pairs; terms: single ones, all numbers alike; characters: runs of 2 to 4 "
        "inside words",
    )
    maximum_features: int = Field(default=50_000, ge=100, description="the commonest units that are looked at")

    @property
    def title(self) -> str:
        """What the vectors are, for pages."""
        return "TF-IDF vectors"

    def embed(self, texts: Sequence[str], seed: int = 0) -> np.ndarray[Any, Any]:
        """Unit vectors, texts x dimensions (fewer where the texts hold fewer words); zero for a text of no words."""
        import numpy as np
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        ways: dict[str, dict[str, Any]] = {
            "words": {"token_pattern": WORD, "ngram_range": (1, 2)},
            "terms": {"analyzer": split_terms},
            "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
        }
        try:
            weights = TfidfVectorizer(
                sublinear_tf=True, max_features=self.maximum_features, **ways[self.unit]
            ).fit_transform(texts)
        except ValueError:
            # Not one word in any text.
            return np.zeros((len(texts), 2), dtype=np.float32)
        dimensions = min(self.dimensions, min(weights.shape) - 1)
        vectors = weights.toarray() if dimensions < 2 else reduce(TruncatedSVD(dimensions, random_state=seed), weights)
        return unit_length(vectors)


def reduce(svd: Any, weights: Any) -> np.ndarray[Any, Any]:
    """The rows of a sparse matrix in fewer dimensions."""
    import numpy as np

    # Texts that are all the same have no variance to divide by.
    with np.errstate(invalid="ignore", divide="ignore"):
        reduced: np.ndarray[Any, Any] = svd.fit_transform(weights)
    return reduced


def unit_length(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows divided by their lengths; those without length stay zero."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0).astype(np.float32)
    return unit
