"""Sentence embeddings of a model folder (Reimers and Gurevych 2019).

Good for: paraphrases in other words, which no count of words sees. The folder is one that ``sentence-transformers``
saved, or any encoder or causal language model of ``transformers``, whose states are then averaged. Nothing is
downloaded, no code of the folder is run, and weights are read from safetensors only.

A text longer than the model reads at once is cut into windows, and its vector is their mean, weighed by tokens. Each
different text is embedded once; the vectors are kept while the process lives, since duplicates, splits, labels and
balancing ask for the same ones.

Example: ``{name: sentence_transformers, path: models/all-MiniLM-L6-v2}``
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.embedders.tfidf import unit_length

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Tokens of a window where the folder does not say how many the model reads.
LONGEST = 512
# Batches between two steps of the progress bar.
BATCHES = 8
# Texts whose vectors are kept; of 384 dimensions 0.8 GB.
KEPT = 500_000


class SentenceTransformers(Section):
    """A local folder of sentence-transformers or transformers."""

    name: Literal["sentence_transformers"] = "sentence_transformers"
    path: str = Field(description="model folder; DVC sees a change of it only where it lies below data/raw")
    batch_size: int = Field(default=64, ge=1, description="texts embedded at once")

    @property
    def title(self) -> str:
        """What the vectors are, for pages."""
        return f"sentence embeddings of {Path(self.path).name}"

    def embed(self, texts: Sequence[str], seed: int = 0) -> Array:
        """Unit vectors, texts x dimensions; the seed plays no part.

        Raises:
            PipelineError: The folder is missing or no model, or the library is not installed.
        """
        import numpy as np
        from rich.console import Console
        from rich.progress import track

        model, known = _open(str(Path(self.path).absolute()))
        if len(known) > KEPT:
            known.clear()
        # Texts of like length together, so that little is padded.
        new = sorted(set(texts) - known.keys(), key=lambda text: (len(text), text))
        size = BATCHES * self.batch_size
        starts = range(0, len(new), size)
        bar = track(starts, "embedding", console=Console(stderr=True), transient=True)
        for start in bar if len(starts) > 1 else starts:
            part = new[start : start + size]
            known.update(zip(part, _embed_windows(model, part, self.batch_size), strict=True))
        if not len(texts):
            return np.zeros((0, model.get_embedding_dimension()), dtype=np.float32)
        return np.stack([known[text] for text in texts])


def _embed_windows(model: Any, texts: Sequence[str], batch_size: int) -> Array:
    import numpy as np

    windows, owners, tokens = _cut(model.tokenizer, texts, model.max_seq_length or LONGEST)
    vectors = model.encode(windows, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
    sums = np.zeros((len(texts), vectors.shape[1]))
    np.add.at(sums, owners, vectors * np.array(tokens)[:, None])
    return unit_length(sums)


def _cut(tokenizer: Any, texts: Sequence[str], longest: int) -> tuple[list[str], list[int], list[int]]:
    """Parts that the model can read, with the place of the text and the tokens of each."""
    cut = tokenizer(
        list(texts),
        truncation=True,
        max_length=longest,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    windows: list[str] = []
    owners: list[int] = cut["overflow_to_sample_mapping"]
    tokens: list[int] = []
    for owner, offsets, special in zip(owners, cut["offset_mapping"], cut["special_tokens_mask"], strict=True):
        spans = [span for span, mark in zip(offsets, special, strict=True) if not mark]
        windows.append(texts[owner][spans[0][0] : spans[-1][1]] if spans else texts[owner])
        tokens.append(max(len(spans), 1))
    return windows, owners, tokens


@lru_cache(maxsize=1)
def _open(path: str) -> tuple[Any, dict[str, Array]]:
    """The model of a folder, and the vectors of the texts it has embedded."""
    if not (Path(path) / "config.json").is_file():
        raise PipelineError(f"embedder: {path} holds no config.json; give path a model folder")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise PipelineError(
            "embedder sentence_transformers: the library is missing; pip install 'heptune[embeddings]'"
        ) from error
    try:
        model = SentenceTransformer(
            path,
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise PipelineError(f"embedder: {path} cannot be loaded ({why}); give path a model folder") from error
    if model.tokenizer.pad_token is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    return model, {}
