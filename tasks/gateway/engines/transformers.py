"""Any causal language model of transformers, decoded in this process.

Good for small and medium models on a CPU, or one GPU without vLLM; needs no packages besides those for
training. ``float32`` gives greedy answers that do not depend on other requests; ``bfloat16`` is faster
without that guarantee. Models without a plain key-value cache (state-space and linear attention,
encoder-decoders) are refused when they are loaded, and so is a model whose batched rows differ from the
same rows alone.

Example: ``engine: {name: transformers, max_batch: 16, dtype: float32}``. ``decoding`` adds a draft that proposes
tokens, or a large base that the release steers (`tasks.gateway.decodings`).
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.gateway.batching.prompt_length import cannot_fit, longest_token
from tasks.gateway.decodings import AnyDecoding
from tasks.gateway.decodings.plain import PlainDecoding
from tasks.gateway.engine import EngineLoad, GenerationRequest, PromptRefused
from tasks.language_models.batching import find_context, why_not_batched
from tasks.language_models.documents import document_ids, is_document
from tasks.language_models.templates.chat import Chat
from tasks.language_models.templates.ends import ends_of
from tasks.language_models.templates.rendering import TemplateRefusal

if TYPE_CHECKING:
    from tasks.gateway.batching.decoding import DecodeLoop
    from tasks.gateway.batching.running_rows import RunningRows
    from tasks.training.stored_adapter import StoredAdapter

logger = logging.getLogger(__name__)

# This multiple of the measured rounding noise also covers batches larger than the measured one.
MARGIN_FACTOR = 16.0
SMALLEST_MARGIN = 1.0e-4
# Where rows are independent, logits of a row in a batch and alone differ by about 1e-5 in float32.
LARGEST_NOISE = 1.0e-2


class Transformers(Section):
    """Decode with transformers in this process."""

    name: Literal["transformers"] = "transformers"
    max_batch: int = Field(default=16, ge=1, le=1024, description="requests decoded together")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32: greedy answers do not depend on other requests; bfloat16: faster"
    )
    device: str = Field(default="cpu", description="torch device, such as cpu or cuda:0")
    prefill_tokens: int = Field(
        default=2048, ge=1, description="maximum prompt tokens of one pass, for which running requests wait"
    )
    decoding: AnyDecoding = Field(
        default=PlainDecoding(),
        description="plain; speculative: a draft proposes tokens; emulated: a large base tuned by the release",
    )

    def load(self, folder: Path, on_step: Callable[[int], None]) -> TransformersEngine:
        """EngineLoad a model folder and check that the rows of a batch do not influence one another.

        Args:
            folder: A transformers folder with safetensors, tokenizer and chat template.
            on_step: Called with the number of requests of every decoding step.

        Raises:
            PipelineError: The folder cannot be served.
        """
        return TransformersEngine(self, folder, on_step)


class TransformersEngine:
    """A loaded model with its decoding thread."""

    def __init__(self, params: Transformers, folder: Path, on_step: Callable[[int], None]) -> None:
        import torch

        from tasks.gateway.batching.adapted_model import AdaptedModel
        from tasks.gateway.batching.batch import rounding_noise
        from tasks.gateway.batching.decoding import DecodeLoop
        from tasks.gateway.batching.prefixed_model import begin_cache

        released, self._tokenizer = read_folder(folder, params.dtype, params.device)
        self._lock = threading.Lock()
        # Decoding has its own tokenizer, so that encoding a long prompt does not block running answers.
        self._decoder = copy.deepcopy(self._tokenizer)
        self._chat = Chat(self._tokenizer)
        self.context = find_context(released.config, self._tokenizer) - begin_cache(released, 1)[1]
        self._folder, self._retired = folder, set[str]()
        self._adapted: AdaptedModel | None = None
        if begin_cache(released, 1)[1] and not isinstance(params.decoding, PlainDecoding):
            raise PipelineError(
                f"{folder}: its trained vectors stand before every row, which decoding {params.decoding.name} does not "
                "read; set deployment.gateway.engine.decoding: {name: plain}"
            )
        if isinstance(params.decoding, PlainDecoding):
            released = self._adapted = AdaptedModel(released)
        prepared = params.decoding.prepare(
            released,
            self._tokenizer,
            lambda other: read_folder(other, params.dtype, params.device),
            params.prefill_tokens,
            self.context,
        )
        model = prepared.model
        self._longest_token = longest_token(list(self._tokenizer.get_vocab()))
        margin = 0.0
        if params.dtype == "float32":
            with torch.inference_mode():
                noise = rounding_noise(
                    model, make_test_prompts(len(self._tokenizer), self.context), batch=prepared.rows()
                )
            if not noise <= LARGEST_NOISE:
                raise PipelineError(
                    f"{folder}: a row in a batch differs from the same row alone by {noise:.2g}, so this architecture "
                    "cannot be batched; serve it with another engine"
                )
            margin = max(SMALLEST_MARGIN, MARGIN_FACTOR * noise)
        self._batch: RunningRows | None = prepared.rows()
        self._loop: DecodeLoop | None = DecodeLoop(
            model,
            self._batch,
            self._text,
            set(ends_of(model.generation_config, self._tokenizer)),
            params.max_batch,
            margin,
            on_step,
            self._adapted,
        )

    def _text(self, tokens: list[int]) -> str:
        text: str = self._decoder.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    @property
    def alive(self) -> bool:
        return self._loop is not None and self._loop.alive

    def cannot_fit(self, texts: Sequence[str]) -> bool:
        return cannot_fit(texts, self.context, self._longest_token, self._count_tokens)

    def _count_tokens(self, text: str) -> int:
        with self._lock:
            return len(self._tokenizer(text, add_special_tokens=False).input_ids)

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        try:
            with self._lock:
                if is_document(messages):
                    return document_ids(self._tokenizer, [messages[0]["content"]])[0][:-1]
                return self._chat.prompt_ids(messages)
        except TemplateRefusal as refusal:
            raise PromptRefused(f"the model's chat template rejects these messages: {refusal.reason}") from refusal
        except PipelineError as error:
            raise PromptRefused(str(error)) from error

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset() if self._adapted is None else self._adapted.names - self._retired

    @cached_property
    def _weights(self) -> str:
        """Hash of the weights that adapters must have been trained on."""
        from tasks.language_models.folder.weights_hash import hash_weights
        from tasks.training.released import is_unmerged

        if is_unmerged(self._folder):
            raise PipelineError(
                "the release is a base with what was trained beside it, to which no adapter can be added; serve a "
                "merged release"
            )
        return hash_weights(self._folder)

    def load_adapter(self, adapter: StoredAdapter) -> None:
        from tasks.training.stored_adapter import refuse_other_base

        adapted, loop = self._adapted, self._loop
        if adapted is None or loop is None:
            raise PipelineError("adapters need deployment.gateway.engine.decoding: {name: plain}")
        refuse_other_base(adapter, self._weights)
        if adapter.name not in adapted.names:
            loop.call(lambda: adapted.add(adapter.name, adapter.folder))

    def unload_adapter(self, name: str) -> None:
        adapted, loop = self._adapted, self._loop
        if adapted is None or loop is None or name not in adapted.names:
            return
        self._retired.add(name)
        try:
            loop.call(lambda: adapted.remove(name), unless_used=name)
        finally:
            self._retired.discard(name)

    def submit(self, request: GenerationRequest) -> None:
        if self._loop is None:
            raise RuntimeError("submit after close")
        self._loop.submit(request)

    def load(self) -> EngineLoad:
        waiting = self._loop.load() if self._loop is not None else EngineLoad(0, 0)
        proposed, accepted = getattr(self._batch, "proposed", 0), getattr(self._batch, "accepted", 0)
        return replace(waiting, proposed=proposed, accepted=accepted)

    def close(self) -> None:
        import gc

        if self._loop is not None:
            self._loop.close()
            # Loop and batch hold the only references to the weights.
            self._loop = self._batch = self._adapted = None
            gc.collect()


def read_folder(folder: Path, dtype: str, device: str) -> tuple[Any, Any]:
    """Model in evaluation mode and tokenizer, from safetensors and without running code from the folder.

    Args:
        folder: A plain transformers folder, or a release's base with what was trained beside it.
        dtype: Number format to compute in.
        device: Where to compute.

    Raises:
        PipelineError: Something is missing, unreadable or not supported.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    from tasks.gateway.batching.prefixed_model import PrefixedModel
    from tasks.training.released import find_base, load_released

    base = find_base(folder)
    if not (base / "config.json").is_file():
        raise PipelineError(f"{folder}: no config.json; expected a transformers model folder")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model: Any = load_released(folder, getattr(torch, dtype)).to(device)
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
        SafetensorError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PipelineError(
            f"{folder}: cannot be loaded ({reason}); expected a transformers folder with safetensors"
        ) from error
    prompted = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    reason = why_not_batched(model.get_base_model() if prompted else model)
    if reason:
        raise PipelineError(
            f"{folder}: {model.config.model_type} is not supported by this engine ({reason}); use another one"
        )
    if not tokenizer.chat_template:
        raise PipelineError(f"{folder}: the tokenizer has no chat template; add chat_template.jinja to the model")
    return PrefixedModel(model) if prompted else model, tokenizer


def make_test_prompts(vocabulary: int, context: int) -> list[list[int]]:
    """Three prompts of different lengths; the last joins while the others run."""
    lengths = [max(1, min(length, context // 4)) for length in (5, 23, 61)]
    return [[(7 * index + 13 * length) % vocabulary for index in range(length)] for length in lengths]
