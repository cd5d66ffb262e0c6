"""Embedding similarity: how near the answer's vector is to the reference's.

The cosine of both vectors (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019), 0 where it is negative. ``path`` is a
folder of sentence-transformers, or a causal language model, the base for example, whose last hidden states are averaged
over the tokens as training on pairs averages them (`tasks.evaluation.retrieval`); nothing is downloaded. Vectors of a
language model that was not trained for it are all near one another: only differences between models say something then.

Good for free wording, where shared words say little; blind to a wrong number or a missing "not".

Example:
    Vectors (3, 4) and (4, 3): (12 + 12) / (5 x 5) = 0.96.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.evaluation.metrics.metric import Evidence, Floats, Scores
    from tasks.evaluation.outcomes import Outcome


class EmbeddingSimilarity(Section):
    """Mean cosine of answer and reference; higher is better."""

    name: Literal["embedding_similarity"] = "embedding_similarity"
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(
        default="models/base", description="folder of sentence-transformers or of a causal language model"
    )
    batch_size: int = Field(default=32, ge=1, description="texts per batch")
    title: ClassVar[str] = "Embedding similarity"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        texts = sorted({*outcome.answers, *(item.reference for item in evidence.items)} - {""})
        vectors = dict(zip(texts, self.embed(texts), strict=True))
        values = np.array(
            [
                float(vectors[answer] @ vectors[item.reference]) if answer and item.reference else 0.0
                for item, answer in zip(evidence.items, outcome.answers, strict=True)
            ]
        )
        return Scores(values.clip(0, 1), np.ones(len(values)))

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, (texts, dimensions).

        Raises:
            PipelineError: The folder is missing or holds no model.
        """
        import numpy as np

        if (Path(self.path) / "modules.json").is_file():
            from tasks.corpus.embedders.sentence_transformers import SentenceTransformers

            return np.asarray(SentenceTransformers(path=self.path, batch_size=self.batch_size).embed(texts), np.float64)
        from tasks.evaluation.retrieval import embed_texts

        model, tokenizer = _open_model(self.path)
        return embed_texts(model, tokenizer, texts, self.batch_size, "mean")


@lru_cache(maxsize=1)
def _open_model(path: str) -> tuple[Any, Any]:
    from tasks.evaluation.outcomes import load_folder

    model, tokenizer = load_folder(Path(path), "fp32")
    return model.eval(), tokenizer
