"""Sentence embeddings of a model folder (Reimers and Gurevych 2019).

Good for: paraphrases in other words, which no count of words sees. The folder is one that ``sentence-transformers``
saved, or any encoder or causal language model of ``transformers``, whose states are then averaged. Nothing is
downloaded, no code of the folder is run, and weights are read from safetensors only.

Example: ``{name: sentence_transformers, path: models/all-MiniLM-L6-v2}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section


class SentenceTransformers(Section):
    """A local folder of sentence-transformers or transformers."""

    name: Literal["sentence_transformers"] = "sentence_transformers"
    path: str = Field(description="model folder")
    batch_size: int = Field(default=64, ge=1, description="texts embedded at once")

    def embed(self, texts: Sequence[str], seed: int = 0) -> np.ndarray[Any, Any]:
        """Unit vectors, texts x dimensions; the seed plays no part.

        Raises:
            PipelineError: The folder is missing or no model, or the library is not installed.
        """
        if not (Path(self.path) / "config.json").is_file():
            raise PipelineError(f"embedder: {self.path} holds no config.json; give path a model folder")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise PipelineError(
                "embedder sentence_transformers: the library is missing; pip install 'heptune[embeddings]'"
            ) from error
        try:
            model = SentenceTransformer(
                self.path,
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise PipelineError(f"embedder: {self.path} cannot be loaded ({why}); give path a model folder") from error
        if model.tokenizer.pad_token is None:
            model.tokenizer.pad_token = model.tokenizer.eos_token
        vectors: np.ndarray[Any, Any] = model.encode(
            list(texts), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors.astype(np.float32)
