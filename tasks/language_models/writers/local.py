"""A causal language model in a folder, run on this machine with greedy decoding, so that its answers do not vary.

Example: ``{name: local, path: models/teacher}``
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Reads, Section

if TYPE_CHECKING:
    from tasks.language_models.writers.answers import AnswerCache, Turns, WriterAnswer

# Answers are cached after this many prompts, so that an interrupted run loses no more.
PROMPTS_PER_CHECKPOINT = 256
# Tokens of the context that a prompt must leave for the answer.
LEAST_ROOM = 8
DOCUMENTS = (".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg")


class Local(Section):
    """A transformers model folder with a chat template."""

    name: Literal["local"] = "local"
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(description="model folder")
    max_tokens: int = Field(default=256, ge=1, description="maximum length of an answer")
    batch_size: int = Field(default=16, ge=1, description="prompts per batch")

    @property
    def identity(self) -> dict[str, str | int | float]:
        """What determines an answer besides the prompt: every file of the folder, see `hash_model`."""
        return {"files": hash_model(self.path), "max_tokens": self.max_tokens}

    @property
    def varies(self) -> bool:
        """Greedy answers never vary."""
        return False

    def describe(self) -> str:
        """The folder's name and the beginning of the hash of its weights."""
        weights = ",".join(map(_hash_file, sorted(Path(self.path).glob("*.safetensors"))))
        return f"{Path(self.path).name}@{weights[:12]}"

    def reseed(self, by: int) -> Self:
        """The same model: greedy decoding uses no seed."""
        return self

    def write(self, prompts: Sequence[Turns], cache: AnswerCache) -> list[WriterAnswer]:
        """Answer prompts.

        Raises:
            PipelineError: The folder holds no model or no chat template, or a prompt exceeds the context length.
        """
        from tasks.language_models.encoding import encode_prompt
        from tasks.language_models.generation import generate_answers
        from tasks.language_models.writers.answers import CUT_OFF, EMPTY, WriterAnswer

        def write_batch(model: Any, tokenizer: Any, batch: list[Turns]) -> list[WriterAnswer]:
            answers = generate_answers(model, tokenizer, batch, self.max_tokens, self.batch_size, "writing")
            written = []
            for prompt, answer in zip(batch, answers, strict=True):
                text = answer.text.strip()
                why = "" if text and answer.finished else EMPTY if answer.finished else CUT_OFF
                tokens = len(encode_prompt(tokenizer, prompt)), len(answer.tokens) + answer.finished
                written.append(WriterAnswer(None if why else text, why, *tokens))
            return written

        return self._answer_all(prompts, cache, write_batch)

    def weigh(self, prompts: Sequence[Turns], labels: Sequence[str], cache: AnswerCache) -> list[WriterAnswer]:
        """How likely each label is as the whole answer, its end of turn included.

        Raises:
            PipelineError: The folder holds no model or no chat template, or a prompt exceeds the context length.
        """
        from math import exp

        from tasks.language_models.encoding import encode_prompt
        from tasks.language_models.generation import score_references
        from tasks.language_models.writers.answers import choose_label

        def weigh_batch(model: Any, tokenizer: Any, batch: list[Turns]) -> list[WriterAnswer]:
            asked = [prompt for prompt in batch for _ in labels]
            losses = score_references(model, tokenizer, asked, list(labels) * len(batch), self.batch_size, "weighing")
            weighed = []
            for place, prompt in enumerate(batch):
                nats = [loss.mean * loss.tokens for loss in losses[place * len(labels) : (place + 1) * len(labels)]]
                masses = [exp(min(nats) - one) for one in nats]
                weighed.append(choose_label(labels, masses, (len(encode_prompt(tokenizer, prompt)), 1)))
            return weighed

        return self._answer_all(prompts, cache, weigh_batch)

    def _answer_all(
        self,
        prompts: Sequence[Turns],
        cache: AnswerCache,
        answer_batch: Callable[[Any, Any, list[Turns]], list[WriterAnswer]],
    ) -> list[WriterAnswer]:
        """Answers in batches, each kept; where prompts may fail, those longer than the context do."""
        from tasks.language_models.encoding import encode_prompt
        from tasks.language_models.generation import context_length
        from tasks.language_models.writers.answers import TOO_LONG, WriterAnswer

        if not prompts:
            return []
        model, tokenizer = load_model(self.path, "writer local")
        room = context_length(model.config) if cache.failures else None
        found = [WriterAnswer(None, TOO_LONG, 0, 0)] * len(prompts)
        fitting = [
            place
            for place, prompt in enumerate(prompts)
            if room is None or len(encode_prompt(tokenizer, prompt)) + LEAST_ROOM <= room
        ]
        for start in range(0, len(fitting), PROMPTS_PER_CHECKPOINT):
            places = fitting[start : start + PROMPTS_PER_CHECKPOINT]
            answers = answer_batch(model, tokenizer, [prompts[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                cache.store(prompts[place], answer)
                found[place] = answer
        return found


def hash_model(path: str) -> str:
    """SHA-256 over names and content of `list_model_files`."""
    import orjson

    digest = hashlib.sha256()
    for file in list_model_files(Path(path)):
        digest.update(orjson.dumps([file.relative_to(path).as_posix(), _hash_file(file)]))
    return digest.hexdigest()


def list_model_files(folder: Path) -> list[Path]:
    """The files of a model folder that decide what the model says: weights, configs, tokenizer, chat template.

    Hidden files and documents, which change no answer, are left out.
    """
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.suffix.lower() not in DOCUMENTS
    ]


def _hash_file(file: Path) -> str:
    return _hash_once(file.absolute(), file.stat().st_size, file.stat().st_mtime_ns)


@lru_cache
def _hash_once(file: Path, _size: int, _modified: int) -> str:
    return hash_file(file)


def load_model(path: str, user: str) -> tuple[Any, Any]:
    """Load a causal language model in evaluation mode and its tokenizer.

    Args:
        path: The model folder.
        user: Name of the caller, for error messages.

    Raises:
        PipelineError: The folder holds no loadable model.
    """
    if not (Path(path) / "config.json").is_file():
        raise PipelineError(f"{user}: {path} holds no config.json; give it a model folder")
    return _load_once(path, user, hash_model(path))


@lru_cache(maxsize=1)
def _load_once(path: str, user: str, _files: str) -> tuple[Any, Any]:
    # Loaded anew when a file changes, so that no answer of an old model is cached under the new one's key.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise PipelineError(f"{user}: {path} cannot be loaded ({why}); give it a model folder") from error
    return model.eval(), tokenizer
