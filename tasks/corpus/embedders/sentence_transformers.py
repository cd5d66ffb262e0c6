"""Sentence embeddings of a model folder (Reimers and Gurevych 2019).

Good for: paraphrases, which share meaning but no words. The folder is a model saved by ``sentence-transformers``, or
any encoder or causal language model of ``transformers``, whose hidden states are mean-pooled unless it has a chat
template: then the library writes texts into that and takes the last token, where the folder does not say otherwise, as
a release of the objective ``contrastive`` does. Nothing is downloaded, no code of the folder is executed, and weights
are loaded from safetensors only.

A text longer than the context length is split into windows, and its vector is the mean of theirs, weighted by tokens.
Each distinct text is embedded once; the vectors are cached for the life of the process, because duplicates, splits,
labels and balancing embed the same texts.

Example: ``{name: sentence_transformers, path: models/all-MiniLM-L6-v2}``
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.contracts.progress import track
from tasks.corpus.embedders.tfidf import normalise_lengths
from tasks.corpus.threads import on_one_thread

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Tokens per window when the folder does not state the context length.
DEFAULT_MAX_TOKENS = 512
# Batches per step of the progress bar.
BATCHES_PER_STEP = 8
# With 384 dimensions 0.8 GB.
MAX_CACHED_VECTORS = 500_000


class SentenceTransformers(Section):
    """A local folder of sentence-transformers or transformers."""

    name: Literal["sentence_transformers"] = "sentence_transformers"
    path: Annotated[str, Reads("folder")] = Field(description="model folder; DVC tracks it only below data/raw")
    batch_size: int = Field(default=64, ge=1, description="texts per batch")

    @property
    def title(self) -> str:
        """Description of the vectors for reports."""
        return f"sentence embeddings of {Path(self.path).name}"

    def embed(self, texts: Sequence[str], seed: int = 0) -> Array:
        """Unit vectors, shape (texts, dimensions); the seed is not used.

        Raises:
            PipelineError: The folder is missing or holds no model, or the library is not installed.
        """
        import numpy as np

        model, cache = _load(str(Path(self.path).absolute()))
        if len(cache) > MAX_CACHED_VECTORS:
            cache.clear()
        # Sorting by length reduces padding within a batch.
        uncached = sorted(set(texts) - cache.keys(), key=lambda text: (len(text), text))
        step = BATCHES_PER_STEP * self.batch_size
        starts = range(0, len(uncached), step)
        for start in track(starts, "embedding"):
            batch = uncached[start : start + step]
            cache.update(zip(batch, _embed_windows(model, batch, self.batch_size), strict=True))
        if not len(texts):
            return np.zeros((0, model.get_embedding_dimension()), dtype=np.float32)
        return np.stack([cache[text] for text in texts])


@on_one_thread
def _embed_windows(model: Any, texts: Sequence[str], batch_size: int) -> Array:
    import numpy as np

    windows, owners, tokens = _split_into_windows(model.tokenizer, texts, model.max_seq_length or DEFAULT_MAX_TOKENS)
    vectors = model.encode(windows, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
    sums = np.zeros((len(texts), vectors.shape[1]))
    np.add.at(sums, owners, vectors * np.array(tokens)[:, None])
    return normalise_lengths(sums)


def _split_into_windows(
    tokenizer: Any, texts: Sequence[str], max_tokens: int
) -> tuple[list[str], list[int], list[int]]:
    """Windows within the context length, with the text number and the token count of each."""
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_tokens,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    windows: list[str] = []
    owners: list[int] = encoded["overflow_to_sample_mapping"]
    tokens: list[int] = []
    for owner, offsets, special in zip(owners, encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True):
        spans = [span for span, is_special in zip(offsets, special, strict=True) if not is_special]
        windows.append(texts[owner][spans[0][0] : spans[-1][1]] if spans else texts[owner])
        tokens.append(max(len(spans), 1))
    return windows, owners, tokens


@lru_cache(maxsize=1)
def _load(path: str) -> tuple[Any, dict[str, Array]]:
    """The model of a folder, and an empty cache for the vectors of its texts."""
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
        cause = str(error).splitlines()[0]
        raise PipelineError(f"embedder: {path} cannot be loaded ({cause}); give path a model folder") from error
    if model.tokenizer.pad_token is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    return model, {}
